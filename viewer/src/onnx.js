import { RangeTables } from "./range_tables.js";
import { cut } from "./tiles.js";

const LARGEST_DIFFERENCE = 2; // levels between WebGPU's pixels and WebAssembly's
const CHECKED = 16; // positions of y a side on which the two are compared

/**
 * @typedef {import("./tiles.js").Grid<any>} AnyGrid
 * @typedef {"wasm" | "webgpu"} Provider
 */

/**
 * Weights that `tcm export-onnx` wrote, run by onnxruntime-web.
 *
 * The entropy model runs in WebAssembly. With `webgpu`, g_s runs on the GPU where there is one whose pixels of a first
 * piece are within two levels of WebAssembly's, for as long as it does not fail.
 *
 * @param {any} ort the module `onnxruntime-web`, or a build of it; `onnxruntime-web/webgpu` for WebGPU
 * @param {Record<string, any>} description what `model.json` holds
 * @param {(program: string) => Promise<Uint8Array>} load the bytes of `<program>.onnx`
 * @param {{webgpu?: boolean}} options
 * @returns {import("./network.js").Model}
 */
export function openModel(ort, description, load, { webgpu = false } = {}) {
  const sessions = new Sessions(ort, load);
  /** @type {Map<string, Promise<Provider>>} */
  const providers = new Map();
  return {
    name: description.name,
    identity: description.identity,
    config: description.config,
    tables: new RangeTables(description.lookup, description.offsets),
    async run(program, grids, level) {
      if (!webgpu || !program.startsWith("synthesis")) return sessions.run("wasm", program, grids, level);
      if (!providers.has(program)) providers.set(program, sessions.provider(program, grids, level));
      try {
        return await sessions.run(/** @type {Provider} */ (await providers.get(program)), program, grids, level);
      } catch {
        providers.set(program, Promise.resolve("wasm")); // a GPU may be lost at any time
        return sessions.run("wasm", program, grids, level);
      }
    },
  };
}

/** Sessions of programs, opened when they are first run. */
class Sessions {
  /**
   * @param {any} ort
   * @param {(program: string) => Promise<Uint8Array>} load
   */
  constructor(ort, load) {
    this.ort = ort;
    this.load = load;
    /** @type {Map<string, Promise<any>>} */
    this.opened = new Map();
  }

  /**
   * @param {Provider} provider
   * @param {string} program
   */
  async open(provider, program) {
    return this.ort.InferenceSession.create(await this.load(program), {
      executionProviders: [provider],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    });
  }

  /**
   * @param {Provider} provider
   * @param {string} program
   * @param {Record<string, AnyGrid>} grids
   * @param {number | null} level
   * @returns {Promise<Record<string, AnyGrid>>}
   */
  async run(provider, program, grids, level) {
    const key = `${provider} ${program}`;
    const opening = this.opened.get(key) ?? this.open(provider, program);
    this.opened.set(key, opening);
    const session = await opening.catch((/** @type {unknown} */ error) => {
      this.opened.delete(key); // the next call tries again
      throw error;
    });
    const results = await session.run(feedsOf(this.ort, session.inputNames, grids, level));
    return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, gridOf(tensor)]));
  }

  /**
   * Which of the two g_s may run on.
   *
   * @param {string} program
   * @param {Record<string, AnyGrid>} grids
   * @param {number | null} level
   * @returns {Promise<Provider>}
   */
  async provider(program, grids, level) {
    const names = Object.entries(grids);
    const piece = Object.fromEntries(names.map(([name, grid]) => [name, cornerOf(grid)]));
    try {
      const { picture: fast } = await this.run("webgpu", program, piece, level);
      const { picture: sure } = await this.run("wasm", program, piece, level);
      /** @type {(value: number, i: number) => boolean} */
      const near = (value, i) => Math.abs(value - fast.data[i]) <= LARGEST_DIFFERENCE;
      return sure.data.every(near) ? "webgpu" : "wasm";
    } catch {
      return "wasm";
    }
  }
}

/** @param {AnyGrid} grid */
function cornerOf(grid) {
  const [rows, columns] = [grid.height, grid.width].map((length) => {
    const stop = Math.min(length, CHECKED);
    return { start: 0, stop, first: 0, last: stop };
  });
  return cut(grid, rows, columns, 1);
}

/**
 * @param {any} ort
 * @param {string[]} names
 * @param {Record<string, AnyGrid>} grids
 * @param {number | null} level
 */
function feedsOf(ort, names, grids, level) {
  const feeds = names.map((name) => {
    if (name === "level") return [name, new ort.Tensor("float32", Float32Array.of(level ?? 0), [1])];
    const { data, height, width, channels } = grids[name];
    const type = data instanceof Int32Array ? "int32" : "float32";
    return [name, new ort.Tensor(type, data, [height, width, channels])];
  });
  return Object.fromEntries(feeds);
}

/**
 * @param {any} tensor
 * @returns {AnyGrid}
 */
function gridOf(tensor) {
  const [height, width, channels] = tensor.dims;
  return { data: tensor.data, height, width, channels };
}
