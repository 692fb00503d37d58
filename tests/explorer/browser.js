// Tries the page in Chromium, from the disk, as a reader does:
//
//     npm install --prefix .venv-browser playwright-core
//     NODE_PATH=.venv-browser/node_modules node tests/explorer/browser.js [FOLDER FOR SCREENSHOTS]
//
// At the width of a phone and of a projector: drag a bar, step by keyboard, change a convention, load the link again.
"use strict";
const assert = require("assert");
const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");
const { chromium } = require("playwright-core");

const PAGE = pathToFileURL(path.resolve(__dirname, "../../tutorials/explorer/index.html")).href;
const CHROMIUM = process.env.CHROMIUM || "/usr/bin/chromium";
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const text = (page, id) => page.locator(id).innerText();
const state = (page) => page.evaluate(() => JSON.parse(JSON.stringify(state)));

async function tryPage(browser, width, height, shots) {
  const context = await browser.newContext({ viewport: { width, height }, hasTouch: width < 600, reducedMotion: "reduce" });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => request.url().startsWith("file:") || request.url().startsWith("data:") || complaints.push(`asked for ${request.url()}`));
  await page.goto(PAGE);
  const picture = async (name) => shots && page.screenshot({ path: path.join(shots, `${width}-${name}.png`), fullPage: true });
  await picture("start");
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width, "the page scrolls sideways");

  // Drag the first current to the bottom: it no longer fires.
  const bar = await page.locator("#x-1").boundingBox();
  await page.mouse.move(bar.x + bar.width / 2, bar.y + bar.height / 2);
  await page.mouse.down();
  await page.mouse.move(bar.x + bar.width / 2, bar.y + bar.height - 2, { steps: 5 });
  await page.mouse.up();
  assert.equal((await state(page)).x[0], -1.5, "the bar was not dragged");
  assert.match(await page.locator("#potential-0").getAttribute("aria-label"), /t 1: u −1.5, no spike/);
  // And back up with the keys, which keep their focus.
  await page.keyboard.press("End");
  await page.keyboard.press("ArrowDown");
  assert.equal((await state(page)).x[0], 1.4375, "the bar does not follow the arrow keys");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.evaluate(() => document.activeElement.id), "x-2");

  // Every control can be reached with the Tab key, and is seen to have the focus.
  const reached = new Set();
  await page.evaluate(() => document.activeElement.blur());
  for (let i = 0; i < 80; i++) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id));
    if (await page.evaluate(() => document.activeElement.id && !document.activeElement.matches(":focus-visible"))) assert.fail("no visible focus");
  }
  const wanted = ["copy", "start", "T", "tau", "v_th", "gamma", "kappa", "step", "back", "next", "reset", "scale", "x-1", "x-4", "ds-4", "width"];
  const missed = wanted.filter((id) => !reached.has(id));
  assert.deepEqual(missed, [], "not reached with Tab");

  // The backward pass by keyboard, in its order, and back.
  await page.evaluate(() => change(structuredClone(START)));
  await page.locator("#step").focus();
  const numbers = [];
  for (let i = 0; i < 7; i++) {
    numbers.push(await text(page, "#card .number"));
    await page.keyboard.press("ArrowRight");
  }
  assert.deepEqual(numbers, ["given", "S1, S2", "B1", "B2", "B3", "B4", "B5"]);
  assert.match(await text(page, "#card"), /t = 3: from the loss/);
  await page.keyboard.press("ArrowLeft");
  assert.match(await text(page, "#card"), /0\.75 · 0\.8 = 0\.6/, "B5 with its numbers");

  // A convention: the numbers that change are marked, and a number is the one of reference.py.
  await page.locator("#reset_gradient").selectOption("detached");
  assert.match(await text(page, "#changed"), /8 of 40 numbers change/);
  await page.evaluate(() => change({ at: "du/0/1" }));
  assert.match(await text(page, "#card"), /0\.05\s[\s\S]*≠ With MPD-AGL's conventions: −0\.04/);
  await picture("detached");

  // The scale: the same bits with the adaptive width, other numbers with kappa = 1.
  await page.locator("#scale").focus();
  await page.keyboard.press("ArrowRight");
  assert.equal((await state(page)).scale, 1);
  assert.match(await text(page, "#scale-text"), /Adaptive width: all 5 gradients have the same bits.*κ = 1: 5 of 5 gradients change/);

  // The link restores all of it; one that somebody spoilt does no harm.
  await page.waitForFunction(() => location.hash.includes("scale=1"));
  const before = await state(page);
  await page.reload();
  assert.deepEqual(await state(page), before);
  await page.goto(`${PAGE}#T=99&tau=x&x=9,,0.5&reset=%3Cb%3E&at=none&neurons=2&gamma=`);
  await page.reload();
  const spoilt = await state(page);
  assert.deepEqual([spoilt.T, spoilt.tau, spoilt.x[0], spoilt.x[2], spoilt.reset, spoilt.neurons, spoilt.gamma], [4, 0.75, 0.75, 0.5, "hard", 2, 1]);

  // Every convention, with every reset, for one neuron and two: each step has a number, and the page can be drawn.
  const odd = await page.evaluate(() => {
    const wrong = [];
    for (const neurons of [1, 2]) {
      for (const reset of CHOICES.reset) {
        for (const [name, values] of Object.entries(CHOICES)) {
          for (const value of values) {
            for (const T of [1, 8]) {
              const odd = { ...structuredClone(START), reset, neurons, T, gamma: value === "first" ? -0.25 : 1, [name]: value };
              if (reset === "soft late" && T === 1) change(odd);
              if (!stepsOf(compute(odd, odd)).every((step) => Number.isFinite(step.value) && step.formula && !/undefined|NaN/.test(step.filled + step.words + step.title))) wrong.push([neurons, reset, name, value, T]);
            }
          }
        }
      }
    }
    return wrong;
  });
  assert.deepEqual(odd, []);
  await page.evaluate(() => change({ ...structuredClone(START), neurons: 2, at: "ds/0/0", surrogate: "triangular" }));
  await picture("two");
  if (width < 600) {
    await page.evaluate(() => scrollTo(0, 0));
    const touched = await page.locator("#ds-1").boundingBox();
    await page.touchscreen.tap(touched.x + touched.width / 2, touched.y + touched.height - 4);
    assert.equal((await state(page)).ds[0], -1, "a tap moves no bar");
  }
  assert.deepEqual(complaints, []);
  await context.close();
}

(async () => {
  const shots = process.argv[2];
  if (shots) fs.mkdirSync(shots, { recursive: true });
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  for (const [width, height] of [[360, 740], [1920, 1080]]) {
    await tryPage(browser, width, height, shots);
    console.log(`the explorer works at ${width} pixels`);
  }
  await browser.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
