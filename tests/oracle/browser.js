// Opens the pages of tests/oracle/pages.py in Chromium, from the disk, at the width of a phone and of a projector:
//
//     NODE_PATH=.venv-browser/node_modules node tests/oracle/browser.js FOLDER [FOLDER FOR SCREENSHOTS]
"use strict";
const assert = require("assert");
const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");
const { chromium } = require("playwright-core");

const [folder, shots] = process.argv.slice(2);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

async function tryPage(browser, file, width) {
  const page = await browser.newPage({ viewport: { width, height: 900 } });
  const complaints = [];
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => request.url().startsWith("file:") || request.url().startsWith("data:") || complaints.push(`asked for ${request.url()}`));
  await page.goto(pathToFileURL(path.join(folder, file)).href);
  if (shots) await page.screenshot({ path: path.join(shots, `${file}-${width}.png`), fullPage: true });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width, "the page scrolls sideways");
  const report = file !== "neuron.html";
  if (report) assert.equal(await page.locator("header .verdict").first().isVisible(), true);
  // Whatever scrolls can be reached and is named for a screen reader, and so is every drawing.
  const unnamed = await page.evaluate(() => [...document.querySelectorAll("[role]")].filter((e) => !e.getAttribute("aria-label")).length);
  assert.equal(unnamed, 0, "without a name");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.matches(":focus-visible")), true, "no visible focus");
  // A link of the way leads to the array's row.
  if (report) {
    await page.locator("a.chip").first().click();
    assert.equal(await page.locator("tr:target").count(), 1, "the link leads nowhere");
  }
  assert.deepEqual(complaints, []);
  await page.close();
}

(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: FLAGS });
  const files = fs.readdirSync(folder).filter((name) => name.endsWith(".html"));
  assert.notEqual(files.length, 0);
  for (const file of files) for (const width of [360, 1920]) await tryPage(browser, file, width);
  await browser.close();
  console.log(`${files.length} pages are fine at 360 and 1920 pixels`);
})();
