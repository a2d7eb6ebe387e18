/* Rate-distortion curves as SVG, drawn for the width at hand. */
(function charts() {
  const METRICS = [["psnr", "PSNR", "dB", 2], ["ms_ssim_db", "MS-SSIM", "dB", 2], ["ssimulacra2", "SSIMULACRA 2", "", 1]];
  const KEYS = { psnr: "psnr", ms_ssim_db: "ms_ssim_db_of_mean", ssimulacra2: "ssimulacra2" };
  const chart = byId("chart"), tip = byId("tip"), hidden = new Set(["published jpeg", "published webp", "published jpeg2000", "published mbt2018-mean_mse", "published tcm-medium", "published bpg_444_x265_ycbcr", "published hm"]);
  let metric = "psnr", axis = "log", points = [], current = -1;
  const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  function curves() {
    const found = [];
    let other = 1;
    for (const curve of currentSet.curves) {
      const values = curve.points.filter((p) => !p.failed).map((p) => ({ bpp: p.bpp, value: p[KEYS[metric]], label: p.label })).filter((p) => isNumber(p.value));
      const ours = curve.kind === "tcm";
      const style = ours ? { colour: "var(--c0)", width: 3, dash: "" } : { colour: `var(--c${1 + ((other++ - 1) % 6)})`, width: 1.8, dash: "" };
      found.push({ id: curve.name, label: curve.label, values, ours, ...style });
    }
    const published = ["", "7 3", "2 3", "9 3 2 3", "5 2", "1 2"];
    currentSet.published.forEach((curve, i) => {
      const values = (curve[metric] || []).map((value, j) => ({ bpp: curve.bpp[j], value, label: "published" }));
      const colour = curve.name.startsWith("tcm") ? "var(--c0)" : "var(--c7)";
      found.push({ id: `published ${curve.name}`, label: `${curve.label}, published`, values, colour, width: 1.4, dash: published[1 + (i % 5)] });
    });
    return found.filter((curve) => curve.values.length);
  }

  const MARKS = ["M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M-3.6-3.6h7.2v7.2h-7.2z", "M0-4.6L4.2 3.4H-4.2z", "M0-5L4.4 0 0 5-4.4 0z", "M-4.2-3.4H4.2L0 4.6z", "M-1.4-4.4h2.8v3h3v2.8h-3v3h-2.8v-3h-3v-2.8h3z"];
  const mark = (i, curve) => (curve.ours ? "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0" : MARKS[i % MARKS.length]);

  function ticks(low, high, count) {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + 1e-9; t += step) found.push(Number(t.toPrecision(6)));
    return found;
  }

  function draw() {
    const all = curves(), seen = all.filter((curve) => !hidden.has(curve.id));
    const available = METRICS.filter(([key]) => currentSet.curves.some((c) => c.points.some((p) => isNumber(p[KEYS[key]]))));
    segments(byId("metric"), available.map(([key, label]) => [key, label]), metric, (value) => { metric = value; draw(); });
    const width = Math.max(chart.clientWidth - 14, 260), height = Math.round(Math.min(520, Math.max(300, width * 0.56)));
    const box = { left: 46, right: 14, top: 12, bottom: 40 };
    const [, name, unit, digits] = METRICS.find(([key]) => key === metric);
    const flat = seen.flatMap((curve) => curve.values.map((p) => p));
    const limit = axis === "log" ? Infinity : 1.5, kept = flat.filter((p) => p.bpp <= limit);
    if (!kept.length) { chart.replaceChildren(make("p", { class: "note" }, "No curve is shown.")); points = []; return legend(all); }
    const rates = kept.map((p) => p.bpp), values = kept.map((p) => p.value);
    const range = axis === "log" ? [Math.min(...rates) * 0.92, Math.min(Math.max(...rates), 2.6) * 1.06] : [0, Math.min(Math.max(...rates) * 1.04, limit)];
    const inside = kept.filter((p) => p.bpp <= range[1]).map((p) => p.value);
    const pad = (Math.max(...inside) - Math.min(...inside) || 1) * 0.05, span = [Math.min(...values) - pad, Math.max(...inside) + pad];
    const toX = (bpp) => box.left + (width - box.left - box.right) * (axis === "log" ? Math.log(bpp / range[0]) / Math.log(range[1] / range[0]) : (bpp - range[0]) / (range[1] - range[0]));
    const toY = (value) => height - box.bottom - ((height - box.top - box.bottom) * (value - span[0])) / (span[1] - span[0]);
    const xs = axis === "log" ? [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2].filter((t) => t >= range[0] && t <= range[1]) : ticks(range[0], range[1], width < 500 ? 4 : 8);
    const parts = [`<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escape(name)} by bits per pixel">`];
    parts.push(`<defs><clipPath id="area"><rect x="${box.left}" y="${box.top - 8}" width="${width - box.left - box.right + 8}" height="${height - box.top - box.bottom + 8}"/></clipPath></defs>`);
    for (const t of ticks(span[0], span[1], 7)) parts.push(`<line class="grid" x1="${box.left}" x2="${width - box.right}" y1="${toY(t)}" y2="${toY(t)}"/><text x="${box.left - 8}" y="${toY(t) + 4}" text-anchor="end">${t}</text>`);
    xs.forEach((t, i) => { if (width > 500 || i % 2 === 0) parts.push(`<line class="grid" x1="${toX(t)}" x2="${toX(t)}" y1="${box.top}" y2="${height - box.bottom}"/><text x="${toX(t)}" y="${height - box.bottom + 18}" text-anchor="middle">${t}</text>`); });
    parts.push(`<text class="title" x="${(width + box.left) / 2}" y="${height - 5}" text-anchor="middle">bits per pixel${axis === "log" ? " (logarithmic)" : ""}</text><text class="title" x="${box.left + 7}" y="${box.top + 8}">${escape(name)}${unit ? ` (${unit})` : ""}</text><g clip-path="url(#area)">`);
    points = [];
    for (const curve of [...seen].sort((a, b) => Boolean(a.ours) - Boolean(b.ours))) {
      const i = all.indexOf(curve), place = curve.values.map((p) => [toX(p.bpp), toY(p.value)]);
      parts.push(`<polyline points="${place.map((p) => p.map((v) => v.toFixed(1)).join()).join(" ")}" fill="none" style="stroke:${curve.colour}" stroke-width="${curve.width}" stroke-dasharray="${curve.dash}" stroke-linejoin="round"/>`);
      place.forEach(([px, py], j) => {
        if (!curve.dash) parts.push(`<path d="${mark(i, curve)}" transform="translate(${px.toFixed(1)} ${py.toFixed(1)})" style="fill:${curve.colour};stroke:var(--card)" stroke-width="1.3"/>`);
        if (curve.values[j].bpp <= range[1]) points.push({ x: px, y: py, curve, text: `${fixed(curve.values[j].bpp, 3)} bpp, ${fixed(curve.values[j].value, digits)}${unit ? ` ${unit}` : ""}`, label: curve.values[j].label });
      });
    }
    parts.push(`</g><circle id="ring" r="8" fill="none" style="stroke:var(--ink)" stroke-width="1.6" visibility="hidden"/></svg>`);
    chart.innerHTML = parts.join("");
    chart.append(tip);
    tip.hidden = true;
    current = -1;
    legend(all);
  }

  function legend(all) {
    byId("legend").replaceChildren(...all.map((curve, i) => {
      const button = make("button", { type: "button", "aria-pressed": String(!hidden.has(curve.id)), onclick: () => { hidden.has(curve.id) ? hidden.delete(curve.id) : hidden.add(curve.id); const at = [...byId("legend").children].indexOf(button); draw(); byId("legend").children[at].focus(); } });
      button.innerHTML = `<svg viewBox="-13 -6 26 12" aria-hidden="true"><line x1="-13" x2="13" style="stroke:${curve.colour}" stroke-width="${curve.width}" stroke-dasharray="${curve.dash}"/>${curve.dash ? "" : `<path d="${mark(i, curve)}" style="fill:${curve.colour}"/>`}</svg>${escape(curve.label)}`;
      return button;
    }));
  }

  function point(index) {
    const ring = byId("ring");
    current = index;
    tip.hidden = index < 0;
    ring.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    if (index < 0) return;
    const { x, y, curve, text, label } = points[index];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    tip.replaceChildren(make("b", {}, curve.label), text, make("br"), label);
    const svg = chart.querySelector("svg"), scale = svg.clientWidth / svg.viewBox.baseVal.width || 1;
    tip.style.left = `${Math.min(Math.max(4, x * scale + 18), chart.clientWidth - tip.offsetWidth - 4)}px`;
    tip.style.top = `${y * scale > 90 ? y * scale - tip.offsetHeight - 4 : y * scale + 26}px`;
  }
  chart.addEventListener("pointermove", (event) => {
    const svg = chart.querySelector("svg");
    if (!svg) return;
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
    const near = points.map((p, i) => [Math.hypot(p.x - px, p.y - py), i]).sort((a, b) => a[0] - b[0])[0];
    point(near && near[0] < 42 ? near[1] : -1);
  });
  chart.addEventListener("pointerleave", () => points.length && point(-1));
  chart.addEventListener("blur", () => points.length && point(-1));
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], jump = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!points.length || !(step || jump)) return;
    let next = current < 0 ? points.findIndex((p) => p.curve.ours) : (current + (step || jump) + points.length) % points.length;
    while (jump && current >= 0 && points[next].curve === points[current].curve && next !== current) next = (next + jump + points.length) % points.length;
    point(Math.max(next, 0));
    event.preventDefault();
  });
  segments(byId("axis"), [["log", "Log rate"], ["linear", "Linear"]], axis, (value) => { axis = value; draw(); });
  onSet.push(draw);
  new ResizeObserver(() => requestAnimationFrame(draw)).observe(chart.parentElement);
  draw();
})();
