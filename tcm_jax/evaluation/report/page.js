"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const isNumber = (value) => typeof value === "number" && isFinite(value);
const fixed = (value, digits) => (isNumber(value) ? value.toFixed(digits) : "–");
const percent = (value, digits = 1) => (isNumber(value) ? `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)} %` : "–");
const thousands = (value) => (isNumber(value) ? Math.round(value).toLocaleString("en") : "–");

/* What the address asks for: report.html#picture=kodim23.png&left=WebP 4:2:0&zoom=2&theme=dark */
const WISHES = new URLSearchParams(location.hash.slice(1));

/* make("p", {class: "x", onclick: f}, "text", child, ...) */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/* A row of buttons of which one is pressed; calls choose(value). */
function segments(container, options, chosen, choose) {
  const buttons = options.map(([value, label]) => make("button", { type: "button", onclick: () => { press(value); choose(value); } }, label));
  const press = (value) => options.forEach(([other], i) => buttons[i].setAttribute("aria-pressed", String(other === value)));
  container.replaceChildren(...buttons);
  press(chosen);
  return press;
}

/* Colour theme: automatic, light or dark. */
(function theme() {
  const wished = ["Auto", "Light", "Dark"], dark = matchMedia("(prefers-color-scheme: dark)"), button = byId("theme");
  const fromAddress = wished.findIndex((name) => name.toLowerCase() === WISHES.get("theme"));
  let current = Math.max(fromAddress, 0);
  function apply() {
    const name = wished[current];
    document.documentElement.dataset.theme = name === "Dark" || (name === "Auto" && dark.matches) ? "dark" : "light";
    button.textContent = name;
    button.setAttribute("aria-label", `Colour theme: ${name === "Auto" ? "automatic" : name.toLowerCase()}`);
  }
  button.addEventListener("click", () => { current = (current + 1) % 3; apply(); });
  dark.addEventListener("change", apply);
  apply();
})();

/* One data set for all sections. */
let currentSet = DATA.sets[0];
const onSet = [];
function chooseSet(index) {
  currentSet = DATA.sets[index];
  document.querySelectorAll("select.set").forEach((select) => { select.value = index; });
  onSet.forEach((draw) => draw());
}
document.querySelectorAll("select.set").forEach((select) => {
  select.append(...DATA.sets.map((one, i) => make("option", { value: i }, `${one.name}, ${one.pictures} pictures`)));
  select.hidden = DATA.sets.length < 2;
  select.addEventListener("change", () => chooseSet(Number(select.value)));
});

(function intro() {
  const models = DATA.sets[0].curves.filter((curve) => curve.kind === "tcm").map((curve) => curve.label);
  const sets = DATA.sets.map((one) => `${one.name} (${one.pictures})`).join(", ");
  byId("title").textContent = `${models.join(", ")} on ${DATA.sets.map((one) => one.name).join(", ")}`;
  document.title = `${byId("title").textContent} – tcm_jax`;
  const others = DATA.sets[0].curves.filter((curve) => curve.kind !== "tcm").map((curve) => curve.label);
  byId("lead").textContent = `Real files of every picture, header included, decoded again and compared: ${sets}.` + (others.length ? ` Measured beside ${others.join(", ")} by the same code.` : "");
  const cards = [];
  for (const one of DATA.sets) {
    for (const curve of one.curves.filter((curve) => curve.kind === "tcm")) {
      const point = curve.points[Math.floor(curve.points.length / 2)], where = DATA.sets.length > 1 ? `, ${one.name}` : "";
      const scored = isNumber(point.ssimulacra2), [key, metric] = scored ? ["ssimulacra2", "SSIMULACRA 2"] : ["psnr", "PSNR"];
      cards.push([fixed(point.bpp, 3), "bpp", `${curve.label}, ${point.label}${where}`], [fixed(point.psnr, 2), "dB", `PSNR${where}`], scored ? [fixed(point.ssimulacra2, 1), "", `SSIMULACRA 2${where}`] : [fixed(point.ms_ssim, 4), "", `MS-SSIM${where}`]);
      for (const row of one.savings.filter((row) => row.point === `${curve.label}, ${point.label}` && isNumber(row[key]))) cards.push([percent(row[key], 0), "", `${row.codec}, bits at equal ${metric}${where}`]);
    }
  }
  byId("cards").append(...cards.slice(0, 12).map(([number, unit, label]) => make("div", { class: "card" }, make("b", {}, number, " ", make("small", {}, unit)), make("span", {}, label))));
})();
