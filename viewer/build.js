/**
 * Builds what `tcm page` and `tcm viewer` put models and pictures into: `page.html`, and `runtime.bin`, which is the
 * size, and LZMA2 by `xz`, of: the size of onnxruntime-web's JavaScript, it, its WebAssembly.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

import { build } from "esbuild";

const HERE = new URL(".", import.meta.url);
const OUT = new URL("../tcm_jax/cli/viewer/", HERE);
const RUNTIME = new URL("node_modules/onnxruntime-web/dist/", HERE);

const worker = await bundled("page/worker.js", "iife", {});
const script = await bundled("page/page.js", "iife", { WORKER_SOURCE: JSON.stringify(worker) });
const style = text("page/page.css");
const parts = { "SCRIPT-HASH": hash(script), "STYLE-HASH": hash(style), STYLE: style, SCRIPT: script };
mkdirSync(OUT, { recursive: true });
writeFileSync(new URL("page.html", OUT), filled(text("page/page.html"), parts));
writeFileSync(new URL("runtime.bin", OUT), runtime());

/**
 * @param {string} file
 * @param {"esm" | "iife"} format
 * @param {Record<string, string>} define
 */
async function bundled(file, format, define) {
  const options = { bundle: true, minify: true, write: false, target: "es2022", charset: "ascii" };
  const { outputFiles } = await build({ entryPoints: [new URL(file, HERE).pathname], format, define, ...options });
  return outputFiles[0].text.trim().replaceAll("</script", "<\\/script");
}

/**
 * @param {string} template
 * @param {Record<string, string>} values
 */
function filled(template, values) {
  return template.replace(/SCRIPT-HASH|STYLE-HASH|\bSTYLE\b|\bSCRIPT\b/g, (name) => values[name]);
}

function runtime() {
  const code = readFileSync(new URL("ort.wasm.bundle.min.mjs", RUNTIME));
  const wasm = readFileSync(new URL("ort-wasm-simd-threaded.wasm", RUNTIME));
  const whole = Buffer.concat([uint32(code.length), code, wasm]);
  const options = ["--format=raw", "--lzma2=preset=9e,dict=1MiB", "--stdout"];
  const { stdout, status, error } = spawnSync("xz", options, { input: whole, maxBuffer: 2 ** 26 });
  if (error || status) throw new Error("the build needs the program xz (Debian: xz-utils)", { cause: error });
  return Buffer.concat([uint32(whole.length), stdout]);
}

/** @param {number} value */
function uint32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** @param {string} value */
function hash(value) {
  return createHash("sha256").update(value).digest("base64");
}

/** @param {string} file */
function text(file) {
  return readFileSync(new URL(file, HERE), "utf8").trim();
}
