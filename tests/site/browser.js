// Opens every page of the built site in Chromium, from the disk, at the width of a phone and of a projector:
//
//     make site
//     npm install --prefix .venv-browser playwright-core
//     NODE_PATH=.venv-browser/node_modules node tests/site/browser.js [FOLDER FOR SCREENSHOTS]
//
// No page asks for anything that is not on the disk, complains, scrolls sideways, has a dead link, an image without a text
// that stands for it, or a formula that was not set.
"use strict";
const assert = require("assert");
const fs = require("fs");
const path = require("path");
const { fileURLToPath, pathToFileURL } = require("url");
const { chromium } = require("playwright-core");

const SITE = path.resolve(__dirname, "../../build/site");
const CHROMIUM = process.env.CHROMIUM || "/usr/bin/chromium";
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

function pagesIn(folder) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const name = path.join(folder, entry.name);
    if (entry.isDirectory()) return entry.name.startsWith("_") ? [] : pagesIn(name);
    return entry.name.endsWith(".html") ? [name] : [];
  });
}

// What a reader could stumble over, read from the page once its formulas are set.
async function look(page) {
  await page.evaluate(() => window.MathJax && MathJax.startup && MathJax.startup.promise);
  return page.evaluate(() => ({
    ids: [...document.querySelectorAll("[id]")].map((element) => element.id),
    links: [...document.querySelectorAll("a[href]")].map((a) => a.href),
    wide: document.documentElement.scrollWidth - window.innerWidth,
    math: document.querySelectorAll(".math").length,
    set: document.querySelectorAll("mjx-container").length,
    errors: [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map((element) => element.textContent),
    images: [...document.images].filter((image) => !image.alt.trim() || !image.naturalWidth).map((image) => image.src),
    words: document.body.innerText.length,
  }));
}

(async () => {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  const shots = process.argv[2];
  const found = {};
  let formulas = 0;
  for (const width of [360, 1920]) {
    const context = await browser.newContext({ viewport: { width, height: 1080 }, offline: true });
    for (const file of pagesIn(SITE)) {
      const page = await context.newPage();
      const complaints = [];
      page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
      page.on("pageerror", (error) => complaints.push(error.message));
      page.on("request", (request) => /^(file|data|blob):/.test(request.url()) || complaints.push(`asked for ${request.url()}`));
      await page.goto(pathToFileURL(file).href);
      const seen = await look(page);
      const name = path.relative(SITE, file);
      assert.deepEqual(complaints, [], `${name}, ${width} px`);
      assert.deepEqual(seen.errors, [], `${name}: formulas that MathJax cannot set`);
      assert.ok(seen.set >= seen.math, `${name}: ${seen.math - seen.set} formulas are not set`);
      assert.deepEqual(seen.images, [], `${name}: images that are not there, or have no text`);
      assert.ok(seen.wide <= 0, `${name} scrolls sideways by ${seen.wide} px at ${width} px`);
      assert.ok(seen.words > 100, `${name} is empty`);
      found[file] = seen;
      formulas += seen.set;
      if (shots) await page.screenshot({ path: path.join(shots, `${width}-${name.replaceAll("/", "-")}.png`) });
      await page.close();
    }
  }
  await browser.close();

  let links = 0;
  for (const [file, { links: targets }] of Object.entries(found)) {
    for (const target of targets.filter((link) => link.startsWith("file:"))) {
      const url = new URL(target);
      const to = fileURLToPath(new URL(url.pathname, "file:"));
      assert.ok(fs.existsSync(to), `${path.relative(SITE, file)} links to ${to}, which is not there`);
      const id = decodeURIComponent(url.hash.slice(1));
      if (id && found[to]) assert.ok(found[to].ids.includes(id), `${path.relative(SITE, file)} links to ${target}, which has no such place`);
      links += 1;
    }
  }
  assert.ok(formulas > 100 && links > 500, "the site has lost its formulas or links");
  console.log(`${Object.keys(found).length} pages at 360 and 1920 px, ${links} links, ${formulas} formulas: all right`);
})().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
