/* The slider between two versions of a picture, with zoom and the map of bits. */
(function viewer() {
  const shown = DATA.sets.flatMap((one) => one.gallery.map((picture) => ({ ...picture, set: one.name })));
  if (!shown.length) { byId("pictures").hidden = true; return; }
  const stage = byId("stage"), slider = byId("slider"), line = byId("line"), layerSelect = byId("layer"), heatBox = byId("heat");
  let picture = shown[0], left = picture.others.length ? picture.others[0].codec : "original", zoom = 1, x = 0, y = 0, fit = 1;
  byId("pictures-note").textContent = "Each file of another codec is its smallest of at least the model's size. Originals, and what browsers cannot read, are shown as AVIF 4:4:4 of high quality; the figures are of the real files. Drag the line, or use the slider; zoom by a double click.";

  const sides = () => [["original", "Original"], ...picture.others.map((other) => [other.codec, other.codec])];
  const caption = (file) => [make("b", {}, file.label), `${thousands(file.bytes)} bytes, ${fixed(file.bpp, 3)} bpp`, make("br"), `${fixed(file.psnr, 2)} dB` + (isNumber(file.ms_ssim) ? `, MS-SSIM ${fixed(file.ms_ssim, 4)}` : "") + (isNumber(file.ssimulacra2) ? `, SSIMULACRA 2 ${fixed(file.ssimulacra2, 1)}` : "")];

  function showLeft(name) {
    left = sides().some(([value]) => value === name) ? name : "original";
    const file = picture.others.find((other) => other.codec === left);
    byId("left-image").src = file ? file.uri : picture.original;
    byId("left-image").alt = `${picture.name}, ${file ? file.label : "original"}`;
    byId("left-tag").textContent = file ? file.codec : "Original";
    byId("left-caption").replaceChildren(...(file ? caption(file) : [make("b", {}, "Original"), picture.name, make("br"), `${picture.width}x${picture.height}`]));
  }

  function show(index) {
    picture = shown[index];
    byId("right-image").src = picture.tcm.uri;
    byId("right-image").alt = `${picture.name}, ${picture.tcm.label}`;
    byId("right-tag").textContent = picture.tcm.label;
    byId("right-caption").replaceChildren(...caption(picture.tcm));
    showLeft(left);
    segments(byId("left"), sides(), left, showLeft);
    const wished = layerSelect.value;
    heatBox.closest("label").hidden = !picture.bits;
    if (picture.bits) {
      layerSelect.replaceChildren(...picture.bits.layers.map((layer, i) => make("option", { value: i }, layer.name === "all" ? "all bits" : layer.name)));
      layerSelect.value = wished && wished < picture.bits.layers.length ? wished : 0;
    }
    [...byId("strip").children].forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === index));
      button.tabIndex = i === index ? 0 : -1;
    });
    x = y = 0;
    layout();
    drawHeat();
  }

  function layout() {
    const limit = Math.min(0.78 * innerHeight, 760), ratio = picture.width / picture.height;
    const width = Math.min(byId("pictures").clientWidth, limit * ratio);
    stage.parentElement.style.maxWidth = `${Math.max(width, 340)}px`;
    stage.style.width = `${width}px`;
    stage.style.height = `${width / ratio}px`;
    fit = width / picture.width;
    place();
  }

  function place() {
    const scale = fit * zoom, width = stage.clientWidth, height = stage.clientHeight;
    x = Math.min(0, Math.max(width - width * zoom, x));
    y = Math.min(0, Math.max(height - height * zoom, y));
    for (const image of [byId("left-image"), byId("right-image")]) {
      image.style.width = `${picture.width}px`;
      image.style.height = `${picture.height}px`;
      image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    }
    if (picture.bits) {
      const map = byId("heat-map");
      map.style.width = `${16 * picture.bits.columns}px`;
      map.style.height = `${16 * picture.bits.rows}px`;
      map.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    }
    stage.classList.toggle("zoomed", zoom > 1);
    document.querySelectorAll(".side").forEach((side) => side.classList.toggle("crisp", scale * devicePixelRatio >= 2));
    const share = slider.value;
    byId("left-side").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
    line.style.left = `${share}%`;
    slider.setAttribute("aria-valuetext", `${Math.round(share)} % ${byId("left-tag").textContent}`);
    byId("left-tag").style.opacity = share < 12 ? 0 : 1;
    byId("right-tag").style.opacity = share > 88 ? 0 : 1;
  }

  function setZoom(value, atX = stage.clientWidth / 2, atY = stage.clientHeight / 2) {
    x = atX - ((atX - x) * value) / zoom;
    y = atY - ((atY - y) * value) / zoom;
    zoom = value;
    pressZoom(value);
    place();
  }
  const pressZoom = segments(byId("zoom"), [[1, "Fit"], [2, "2×"], [4, "4×"], [8, "8×"]], 1, (value) => setZoom(value));

  /* Magma by its ends and three colours between. */
  const RAMP = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];
  const colour = (share) => {
    const at = Math.min(share * 4, 3.9999), low = Math.floor(at), part = at - low;
    return RAMP[low].map((value, i) => Math.round(value + (RAMP[low + 1][i] - value) * part));
  };
  function drawHeat() {
    const on = heatBox.checked && picture.bits;
    for (const element of [byId("heat-side"), byId("heat-caption"), layerSelect]) element.hidden = !on;
    if (!on) return;
    const { rows, columns, layers } = picture.bits, layer = layers[layerSelect.value], map = byId("heat-map");
    const values = Uint8Array.from(atob(layer.values), (character) => character.charCodeAt(0));
    map.width = columns;
    map.height = rows;
    const context = map.getContext("2d"), image = context.createImageData(columns, rows);
    values.forEach((value, i) => image.data.set([...colour(value / 255), 255], 4 * i));
    context.putImageData(image, 0, 0);
    const ramp = make("span", { class: "ramp", style: `background:linear-gradient(90deg,${RAMP.map((c) => `rgb(${c})`)})` });
    byId("heat-caption").replaceChildren(make("b", {}, `Bits of ${layer.name === "all" ? "y and z" : layer.name}`), "0", ramp, `${fixed(layer.largest, 0)} a position`, make("br"), `${thousands(layer.total)} bits, ${fixed((100 * layer.total) / layers[0].total, 0)} %`);
    place();
  }

  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    const onLine = Math.abs(event.clientX - line.getBoundingClientRect().left) < 26;
    drag = { pan: zoom > 1 && !onLine, x: event.clientX - x, y: event.clientY - y };
    stage.setPointerCapture(event.pointerId);
    stage.classList.toggle("panning", drag.pan);
    if (!drag.pan) slide(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (drag.pan) { x = event.clientX - drag.x; y = event.clientY - drag.y; place(); } else slide(event);
  });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { drag = null; stage.classList.remove("panning"); });
  const slide = (event) => {
    const box = stage.getBoundingClientRect();
    slider.value = (100 * (event.clientX - box.left)) / box.width;
    place();
  };
  stage.addEventListener("dblclick", (event) => {
    const box = stage.getBoundingClientRect();
    setZoom(zoom > 1 ? 1 : 4, event.clientX - box.left, event.clientY - box.top);
  });
  stage.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (event.key === "+" || event.key === "=") setZoom(Math.min(8, zoom * 2));
    else if (event.key === "-") setZoom(Math.max(1, zoom / 2));
    else if (move && zoom > 1) { x += move[0]; y += move[1]; place(); }
    else if (move && move[0]) { slider.value = Number(slider.value) - Math.sign(move[0]) * 2; place(); }
    else return;
    event.preventDefault();
  });
  slider.addEventListener("input", place);
  heatBox.addEventListener("change", drawHeat);
  layerSelect.addEventListener("change", drawHeat);
  addEventListener("resize", layout);

  byId("strip").append(...shown.map((one, i) => make("button", { type: "button", role: "option", "aria-label": DATA.sets.length > 1 ? `${one.set}, ${one.name}` : one.name, title: one.name, onclick: () => show(i) }, make("img", { src: one.original, alt: "", width: one.width, height: one.height }))));
  byId("strip").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -shown.length, End: shown.length }[event.key];
    if (!step) return;
    const index = Math.min(shown.length - 1, Math.max(0, shown.indexOf(picture) + step));
    show(index);
    byId("strip").children[index].focus();
    event.preventDefault();
  });
  if (WISHES.has("left")) left = WISHES.get("left");
  show(Math.max(0, shown.findIndex((one) => one.name === WISHES.get("picture"))));
  if (["2", "4", "8"].includes(WISHES.get("zoom"))) setZoom(Number(WISHES.get("zoom")));
})();
