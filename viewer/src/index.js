/** Decodes .tcm pictures; https://arxiv.org/abs/2303.14978 describes the network, docs/format.md the files. */
export { parse } from "./container.js";
export { decode } from "./decode.js";
export { ArithmeticMismatchError, ModelMismatchError, StreamError, TcmError } from "./errors.js";
export { describe } from "./info.js";
export { openModel } from "./onnx.js";
export { encodePng } from "./png.js";
