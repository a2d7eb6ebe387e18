import puppeteer from "puppeteer-core";

/** Where Debian's packages chromium and firefox-esr put the browsers. */
export const PROGRAMS = { chrome: "/usr/bin/chromium", firefox: "/usr/bin/firefox-esr" };

/** @param {keyof typeof PROGRAMS} browser */
export function startBrowser(browser) {
  const args = browser === "chrome" ? ["--no-sandbox"] : [];
  return puppeteer.launch({ browser, executablePath: PROGRAMS[browser], headless: true, args });
}
