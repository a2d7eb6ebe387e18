/**
 * Opens files in a viewer page, as people do, and writes down what it shows.
 *
 *     node browsers/open.js BROWSER PAGE OUT FILE...
 *
 * BROWSER is chrome or firefox, PAGE a URL. OUT gets a PNG of each picture, and `results.json`: for each file its name,
 * what went wrong (or null), what is said beside it (or null), and the information; every request of the page; and the
 * names that the page lists once the first two have been chosen in the file dialog.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

import { PROGRAMS, startBrowser } from "./start.js";

const [browser, url, out, ...paths] = process.argv.slice(2);
const PATIENCE = 300_000; // ms for one file
const BATCH = 100; // files that a page is opened for

if (!(browser in PROGRAMS)) throw new Error(`the browser is one of ${Object.keys(PROGRAMS)}, not ${browser}`);
mkdirSync(out, { recursive: true });
const results = { files: [], requests: [], chosen: [] };
const running = await startBrowser(browser);
try {
  for (let at = 0; at < paths.length; at += BATCH) await openAll(paths.slice(at, at + BATCH));
  results.chosen = await choose(paths.slice(0, 2));
} finally {
  await running.close();
}
writeFileSync(join(out, "results.json"), JSON.stringify(results, null, 1));

/** @param {string[]} batch */
async function openAll(batch) {
  const page = await running.newPage();
  page.on("request", (request) => {
    const asked = request.url();
    if (asked !== url && !/^(blob|data):/.test(asked)) results.requests.push(asked);
  });
  await page.evaluateOnNewDocument(() => {
    const made = URL.createObjectURL;
    window.blobs = new Map();
    URL.createObjectURL = (blob) => {
      const name = made(blob);
      window.blobs.set(name, blob);
      return name;
    };
  });
  await page.goto(url);
  for (const path of batch) {
    const shown = await show(page, basename(path), readFileSync(path).toString("base64"));
    if (shown.png) writeFileSync(join(out, basename(path).replace(/\.tcm$/, ".png")), Buffer.from(shown.png, "base64"));
    results.files.push({ file: basename(path), ...shown, png: undefined });
  }
  await page.close();
}

/** @param {string[]} two */
async function choose(two) {
  const page = await running.newPage();
  await page.goto(url);
  const dialog = /** @type {import("puppeteer-core").ElementHandle<HTMLInputElement>} */ (await page.$("#choose"));
  await dialog.uploadFile(...two);
  await page.waitForFunction((count) => document.getElementById("files").childElementCount === count, {}, two.length);
  const names = await page.$$eval("#files > *", (buttons) => buttons.map((button) => button.textContent));
  await page.close();
  return names;
}

/**
 * Drops one file on the page and waits for its picture or its error.
 *
 * @param {import("puppeteer-core").Page} page
 * @param {string} name
 * @param {string} base64
 */
async function show(page, name, base64) {
  await page.evaluate(
    (name, base64) => {
      const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], name));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    },
    name,
    base64,
  );
  const done = () =>
    page.evaluate((name) => {
      const [title, error, save] = ["title", "error", "save"].map((id) => document.getElementById(id));
      return title.textContent === name && (!error.hidden || save.hasAttribute("href"));
    }, name);
  for (const start = Date.now(); !(await done()); await new Promise((resolve) => setTimeout(resolve, 20))) {
    if (Date.now() - start > PATIENCE) {
      return { error: `nothing was shown within ${PATIENCE / 1000} s`, note: null, info: {} };
    }
  }
  return page.evaluate(async () => {
    const text = (id) => (document.getElementById(id).hidden ? null : document.getElementById(id).textContent);
    const blob = window.blobs.get(document.getElementById("save").href);
    const png =
      blob &&
      (await new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result.split(",")[1]);
        reader.readAsDataURL(blob);
      }));
    const lines = [...document.querySelectorAll("dd")].map((line) => [
      line.previousSibling.textContent,
      line.textContent,
    ]);
    return { error: text("error"), note: text("note"), info: Object.fromEntries(lines), png };
  });
}
