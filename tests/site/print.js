// Prints the cheat sheet to one page of A4:
//
//     NODE_PATH=.venv-browser/node_modules node tests/site/print.js
//
// The PDF's title holds the first digits of the page's SHA-256, by which a test knows a PDF that is out of date.
"use strict";
const assert = require("assert");
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");
const { chromium } = require("playwright-core");

const FOLDER = path.resolve(__dirname, "../../tutorials/cheat_sheet");

(async () => {
  const page = path.join(FOLDER, "index.html");
  const digest = crypto.createHash("sha256").update(fs.readFileSync(page)).digest("hex").slice(0, 12);
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
  const tab = await browser.newPage();
  await tab.goto(pathToFileURL(page).href);
  await tab.evaluate((digest) => {
    document.title += ` (${digest})`;
    for (const link of [...document.links]) link.removeAttribute("href"); // else the PDF would hold the path of this folder
  }, digest);
  const pdf = await tab.pdf({ preferCSSPageSize: true });
  await browser.close();
  assert.equal((pdf.toString("latin1").match(/\/Type\s*\/Page\b/g) || []).length, 1, "the sheet takes more than a page");
  fs.writeFileSync(path.join(FOLDER, "cheat_sheet.pdf"), pdf);
})().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
