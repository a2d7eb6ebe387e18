import { RangeTables } from "./range_tables.js";

/**
 * @typedef {import("./tiles.js").Grid<any>} AnyGrid
 */

/**
 * Weights that `tcm export-onnx` wrote, run by onnxruntime-web.
 *
 * @param {any} ort the module `onnxruntime-web`, or a build of it
 * @param {Record<string, any>} description what `model.json` holds
 * @param {(program: string) => Promise<Uint8Array>} load the bytes of `<program>.onnx`
 * @returns {import("./network.js").Model}
 */
export function openModel(ort, description, load) {
  /** @type {Map<string, Promise<any>>} */
  const sessions = new Map();
  const open = async (/** @type {string} */ program) => {
    const bytes = await load(program);
    return ort.InferenceSession.create(bytes, {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    });
  };
  return {
    name: description.name,
    identity: description.identity,
    config: description.config,
    tables: new RangeTables(description.lookup, description.offsets),
    async run(program, grids, level) {
      if (!sessions.has(program)) sessions.set(program, open(program));
      const session = await sessions.get(program);
      const results = await session.run(feedsOf(ort, session.inputNames, grids, level));
      return Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, gridOf(tensor)]));
    },
  };
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
