// Looks through the maps of single trials. Everything it shows stands in the page; it asks for nothing.
(() => {
  const data = JSON.parse(document.getElementById("browser-data").textContent);
  const part = (name) => document.getElementById("browser-" + name);
  const trial = part("trial"), map = part("map"), steps = data.palette.length - 1;
  const NS = "http://www.w3.org/2000/svg";
  const shape = (kind, attributes, parent, title) => {
    const it = document.createElementNS(NS, kind);
    for (const name in attributes) it.setAttribute(name, attributes[name]);
    if (title) it.appendChild(document.createElementNS(NS, "title")).textContent = title;
    return parent.appendChild(it);
  };
  const label = (parent, words, side, place) => {
    const it = parent.appendChild(document.createElement("span"));
    it.textContent = words;
    it.style[side] = 100 * place + "%";
  };
  data.rows.forEach(([words, place]) => label(part("rows"), words, "top", place));
  data.times.forEach(([words, place]) => label(part("times"), words + " s", "left", place));
  part("bar").style.background = "linear-gradient(to right," + data.palette.join(",") + ")";
  const image = part("image");
  image.style.height = Math.max(90, Math.min(340, 14 + data.names.length * (data.names.length > 16 ? 5 : 18))) + "px";
  part("head").hidden = !data.head;
  if (!data.head) part("head").style.display = "none";

  const drawHead = (sums, signed) => {
    const head = part("head"), limit = Math.max(...sums.map(Math.abs)) || 1;
    head.replaceChildren();
    const line = { fill: "none", stroke: "#57606a", "stroke-width": 0.02 };
    shape("circle", { ...line, r: 1, fill: "#ffffff" }, head);
    shape("path", { ...line, d: "M-.12 -.99 L0 -1.17 L.12 -.99" }, head);
    shape("path", { ...line, d: "M-1 -.18 C-1.12 -.2 -1.12 .2 -1 .18 M1 -.18 C1.12 -.2 1.12 .2 1 .18" }, head);
    const size = Math.max(0.05, Math.min(0.12, 0.75 / Math.sqrt(sums.length)));
    data.head.forEach((place, channel) => {
      if (!place) return;
      const step = Math.round((1 + sums[channel] / limit) / 2 * steps);
      const dot = { cx: place[0], cy: place[1], r: size, fill: data.palette[step], stroke: "#57606a", "stroke-width": 0.008 };
      shape("circle", dot, head, data.names[channel] + " " + sums[channel]);
    });
    head.setAttribute("aria-label", signed ? "Sum over time at each electrode" : "Root mean square at each electrode");
  };

  const show = () => {
    const layer = data.maps[map.value], one = layer.trials[trial.value];
    image.src = "data:image/png;base64," + one.png;
    image.alt = one.text;
    part("low").textContent = (layer.signed ? "against " : "") + "−" + one.limit;
    part("high").textContent = one.limit + (layer.signed ? " for its class, " : " ") + layer.unit;
    part("text").textContent = one.text;
    if (data.head) drawHead(one.sums, layer.signed);
  };
  const move = (select, by) => {
    select.selectedIndex = Math.max(0, Math.min(select.length - 1, select.selectedIndex + by));
    show();
  };
  const keys = {
    ArrowLeft: () => move(trial, -1), ArrowRight: () => move(trial, 1),
    ArrowUp: () => move(map, -1), ArrowDown: () => move(map, 1),
    Home: () => move(trial, -trial.length), End: () => move(trial, trial.length),
  };
  part("stage").addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  part("previous").addEventListener("click", () => move(trial, -1));
  part("next").addEventListener("click", () => move(trial, 1));
  trial.addEventListener("change", show);
  map.addEventListener("change", show);
  show();
})();
