/* Tables: BD-rates with bars, every picture, complexity, and where all of it comes from. */
(function tables() {
  function table(caption, head, rows, tall = false) {
    const cells = (row) => row.cells.map((cell, i) => (cell instanceof Node ? make("td", { class: "bars" }, cell) : make(i ? "td" : "th", i ? {} : { scope: "row" }, cell)));
    const body = make("tbody", {}, ...rows.map((row) => make("tr", { class: row.class }, ...cells(row))));
    const title = caption ? [make("caption", {}, caption)] : [];
    return make("div", { class: `scroll${tall ? " tall" : ""}${head.length > 9 ? " dense" : ""}`, tabindex: "0", role: "region", "aria-label": caption || "table" }, make("table", {}, ...title, make("thead", {}, make("tr", {}, ...head.map((cell) => (cell instanceof Node ? cell : make("th", { scope: "col", class: cell ? null : "bars" }, cell))))), body));
  }

  function bar(value, most) {
    if (!isNumber(value)) return make("div");
    const low = Math.min(0, most[0]), high = Math.max(0, most[1]), at = (v) => (100 * (v - low)) / (high - low || 1);
    const from = at(Math.min(0, value)), to = at(Math.max(0, value));
    return make("div", { class: "bar-cell" }, make("i", { style: `left:${from}%;width:${Math.max(to - from, 0.6)}%;background:var(${value < 0 ? "--good" : "--bad"})` }), make("i", { class: "zero", style: `left:${at(0)}%` }));
  }

  onSet.push(function bdRates() {
    const ours = new Set(currentSet.curves.filter((c) => c.kind === "tcm").map((c) => c.name));
    const found = [...new Set(currentSet.bd_rate.map((row) => row.metric))].map((metric) => {
      const rows = currentSet.bd_rate.filter((row) => row.metric === metric).map((row) => ({ ...row, value: isNumber(row.percent) ? row.percent : row.rate_difference }));
      rows.sort((a, b) => (isNumber(a.value) ? a.value : 1e9) - (isNumber(b.value) ? b.value : 1e9));
      const values = rows.map((row) => row.value).filter(isNumber), most = [Math.min(...values), Math.max(...values)];
      const method = (rows.find((row) => row.interpolation) || { interpolation: "no curve" }).interpolation;
      return table(`${metric}, against ${rows[0].anchor}, ${method} interpolation`, ["curve", "bits for equal quality", "", "points", "overlap"], rows.map((row) => ({
        class: ours.has(row.curve) ? "ours" : "",
        cells: [row.label, isNumber(row.percent) ? percent(row.percent, 2) : isNumber(row.rate_difference) ? `${percent(row.rate_difference, 2)} *` : "no overlap", bar(row.value, most), isNumber(row.percent) ? `${row.anchor_points}, ${row.test_points}` : "–", isNumber(row.percent) ? `${fixed(row.low, 2)} to ${fixed(row.high, 2)} (${fixed(100 * row.overlap, 0)} %)` : "–"],
      })));
    });
    const star = currentSet.bd_rate.some((row) => isNumber(row.rate_difference)) ? [make("p", { class: "note" }, "* A single point has no curve: its bits over the anchor's at its own quality, not a BD-rate.")] : [];
    const note = make("p", { class: "note" }, "Less than 0 is better. Points: of the anchor, of the curve. Overlap: the range of quality that both cover, and its share of what either covers; a small one says little.");
    byId("bd").replaceChildren(...(found.length ? [...found, ...star, note] : [make("p", { class: "note" }, "A BD-rate needs a curve to compare with: measure other codecs with --codecs, or a data set with published points.")]));
    const rows = currentSet.savings.map((row) => ({ cells: [row.codec, row.point, percent(row.psnr), percent(row.ms_ssim), percent(row.ssimulacra2)] }));
    byId("savings").replaceChildren(...(rows.length ? [table("How many more bits another codec takes at a model's quality", ["codec", "model", "equal PSNR", "equal MS-SSIM", "equal SSIMULACRA 2"], rows)] : []));
  });

  let sortBy = 0, down = false;
  function pictures() {
    const points = currentSet.curves.flatMap((curve) => curve.points.map((point) => ({ curve, point })));
    const select = byId("point"), { point } = points[Math.min(select.value || 0, points.length - 1)];
    const columns = [["picture", "name"], ["size", null], ["bytes", "bytes", thousands], ["bpp", "bpp", (v) => fixed(v, 4)], ["PSNR", "psnr", (v) => fixed(v, 2)], ["MS-SSIM", "ms_ssim", (v) => fixed(v, 4)], ["dB", "ms_ssim_db", (v) => fixed(v, 2)], ["SSIMULACRA 2", "ssimulacra2", (v) => fixed(v, 1)], ["encode s", "encode_seconds", (v) => fixed(v, 3)], ["decode s", "decode_seconds", (v) => fixed(v, 3)]].filter(([, key]) => key !== "ssimulacra2" || point.images.some((row) => isNumber(row.ssimulacra2)));
    const key = columns[Math.min(sortBy, columns.length - 1)][1];
    const value = (row) => (key === null ? row.width * row.height : row[key]);
    const rows = [...point.images].sort((a, b) => (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : 0) * (down ? -1 : 1));
    const cells = (row, name, size) => [name, size, ...columns.slice(2).map(([, k, show]) => show(row[k]))];
    const head = columns.map(([label], i) => make("th", { scope: "col", "aria-sort": i === sortBy ? (down ? "descending" : "ascending") : "none" }, make("button", { type: "button", onclick: () => { down = sortBy === i ? !down : i > 0; sortBy = i; pictures(); byId("rows").querySelectorAll("thead button")[i].focus(); } }, label)));
    byId("rows").replaceChildren(table("", head, [...rows.map((row) => ({ cells: cells(row, row.error ? `${row.name}: ${row.error}` : row.name, `${row.width}x${row.height}`) })), { class: "mean", cells: cells({ ...point, ms_ssim_db: null }, "mean", "") }], true));
    byId("rows").append(make("p", { class: "note" }, `PSNR of the mean squared error: ${fixed(point.psnr_of_mean_mse, 2)} dB; MS-SSIM in decibels of the mean: ${fixed(point.ms_ssim_db_of_mean, 2)} dB.`));
  }
  byId("point").addEventListener("change", pictures);
  onSet.push(function choosePoint() {
    const points = currentSet.curves.flatMap((curve) => curve.points.map((point) => `${curve.label}, ${point.label}`));
    byId("point").replaceChildren(...points.map((label, i) => make("option", { value: i }, label)));
    byId("point").value = 0;
    pictures();
  });

  (function complexity() {
    const millions = (v) => (isNumber(v) ? `${(v / 1e6).toFixed(2)} M` : "–");
    byId("complexity").append(table("One pass over 768x512 pixels", ["model", "parameters", "published", "GMAC, weights", "indep.", "attention", "indep.", "kMAC/px", "kFLOP/px", "enc. s", "dec. s"], DATA.complexity.map((row) => ({
      class: isNumber(row.encode_seconds) ? "ours" : "",
      cells: [row.name, millions(row.parameters), millions(row.published_parameters), fixed(row.gmac, 1), fixed(row.independent_gmac, 1), fixed(row.attention_gmac, 2), fixed(row.independent_attention_gmac, 1), fixed(row.kmac_per_pixel, 1), fixed(2 * row.kmac_per_pixel, 0), fixed(row.encode_seconds, 2), fixed(row.decode_seconds, 2)],
    }))));
    const parts = Object.keys((DATA.complexity[0] || { parts: {} }).parts);
    byId("parts").append(table("Parameters, and GMAC with attention", ["model", ...parts], DATA.complexity.map((row) => ({ cells: [row.name, ...parts.map((part) => `${millions(row.parts[part].parameters)}, ${fixed(row.parts[part].gmac + row.parts[part].attention_gmac, 2)}`)] }))));
  })();

  const list = (id, pairs) => byId(id).replaceChildren(...pairs.flatMap(([term, text]) => [make("dt", {}, term), make("dd", {}, text)]));
  const shown = (value) => (value && typeof value === "object" ? Object.entries(value).map(([k, v]) => `${k} ${v}`).join(", ") || "none: nothing is drawn at random" : String(value));
  list("provenance", Object.entries(DATA.provenance).map(([key, value]) => [key, shown(value)]));
  onSet.push(() => {
    list("settings", currentSet.curves.map((curve) => [curve.label, curve.settings]));
    list("sources", currentSet.published.map((curve) => [curve.label, curve.source]));
    byId("sources").previousElementSibling.hidden = !currentSet.published.length;
  });
  chooseSet(0);
})();
