// The heat maps of plates: elements of the kind "plates". One SVG per plate, one rectangle per well.
cellssl.PlateViews = class {
  static SIDE = 12;  // of a well, in units of the drawing

  constructor(element) {
    this.element = element;
    this.data = JSON.parse(element.querySelector("script").textContent);
    this.letter = Math.min(2, Math.max(0.6, this.data.columns / 12));  // large plates are drawn smaller, with the same letters
    this.margin = 14 * this.letter;
    this.wellsOf = this.data.plates.map((_, plate) =>
      this.data.wells.map((well, index) => ({well, index})).filter(one => one.well[0] === plate));
    this.arm = this.choice("arm", this.data.arms.map(arm => arm.name));
    this.score = this.choice("colour by", []);
    this.page = this.choice("plates", this.pages());
    this.scale = this.made("div", "plates-scale");
    this.said = this.made("p", "plates-said");
    this.said.setAttribute("aria-live", "polite");
    this.explained = this.made("p", "plates-explained");
    this.all = this.made("div", "plates-all");
    const choices = this.made("div", "plates-choices");
    for (const [select, count] of [[this.score, 2], [this.arm, this.data.arms.length], [this.page, this.pages().length]])
      if (count > 1) choices.append(select.parentElement);
    choices.append(this.scale);
    element.querySelector(".fallback").style.display = "none";
    element.append(choices, this.explained, this.said, this.hatching(), this.all);
    this.all.style.setProperty("--plate", this.data.columns > 24 ? "38rem" : "19rem");
    this.listen();
    this.offerScores();
    this.draw();
  }

  made(tag, kind = "", text = "") {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    element.textContent = text;
    return element;
  }

  choice(name, options) {
    const label = this.made("label", "", name), select = this.made("select");
    label.append(select);
    this.fill(select, options);
    return select;
  }

  fill(select, options) {
    select.replaceChildren(...options.map((text, place) => new Option(text, place)));
  }

  pages() {
    const {plates, atOnce} = this.data, starts = [];
    for (let first = 0; first < plates.length; first += atOnce) starts.push(first);
    return starts.map(first => {
      const last = Math.min(first + atOnce, plates.length) - 1;
      return `${first + 1} to ${last + 1} of ${plates.length}: ${plates[first]} to ${plates[last]}`;
    });
  }

  // An arm may lack the score of another one; the score that a reader chose is shown again where an arm has it.
  offerScores() {
    const {scores} = this.data.arms[this.arm.value];
    this.wanted ??= scores[0];
    this.fill(this.score, scores.map(score => score.name));
    const place = scores.findIndex(score => score.key === this.wanted.key);
    this.score.value = Math.max(0, place);
    this.lacking = place < 0 ? `This arm has no “${this.wanted.name}”. ` : "";
  }
  choose() {
    this.wanted = this.data.arms[this.arm.value].scores[this.score.value];
    this.lacking = "";
    this.draw();
  }

  listen() {
    this.arm.addEventListener("change", () => { this.offerScores(); this.draw(); });
    this.score.addEventListener("change", () => this.choose());
    this.page.addEventListener("change", () => this.draw());
    const ofWell = act => event => {
      const index = event.target.dataset?.well;
      if (index !== undefined) act(this.data.wells[index], index, event);
    };
    for (const kind of ["pointerover", "focusin"])
      this.all.addEventListener(kind, ofWell((_, index) => { this.said.textContent = this.words(index); }));
    this.all.addEventListener("focusin", ofWell((_, index, event) => this.stopAt(event.target)));
    this.all.addEventListener("click", ofWell(well => this.showCells(well)));
    this.all.addEventListener("keydown", ofWell((well, _, event) => this.pressed(well, event)));
    this.all.classList.toggle("plates-clickable", this.canShowCells());
  }

  draw() {
    this.shown = this.data.arms[this.arm.value].scores[this.score.value];
    this.values = this.data.values[this.shown.values];
    this.drawScale();
    const first = Number(this.page.value) * this.data.atOnce;
    const plates = this.data.plates.slice(first, first + this.data.atOnce);
    this.all.replaceChildren(...plates.map((name, place) => this.plate(name, first + place)));
    const more = this.canShowCells() ? " Click a well, or press Enter on it, to see its cells." : "";
    this.said.textContent = "";
    this.explained.textContent = `${this.lacking}${this.shown.name}: ${this.shown.explained}. One scale for all plates; control wells have ` +
      `a black outline, wells without a value are hatched.${more}`;
  }

  drawScale() {
    const ramp = this.made("span", "ramp"), {low, high, isCut} = this.shown;
    ramp.style.background = `linear-gradient(to right, ${this.data.shades.join(",")})`;
    this.scale.replaceChildren(this.written(low), ramp, `${isCut ? "≥ " : ""}${this.written(high)}`);
  }

  plate(name, number) {
    const figure = this.made("figure"), wells = this.wellsOf[number];
    figure.append(this.made("strong", "", name), this.drawing(name, wells));
    const edge = this.edge(wells);
    if (edge) figure.append(this.made("figcaption", "", edge));
    return figure;
  }

  drawing(name, wells) {
    const {SIDE} = cellssl.PlateViews, {margin} = this, {rows, columns, placedRows, hasPositions} = this.data;
    const width = margin + columns * SIDE + 1, height = margin + rows * SIDE + 1;
    const svg = this.shape("svg", {viewBox: `0 0 ${width} ${height}`, role: "group",
      "aria-label": `plate ${name}, ${wells.length} wells; arrow keys move`});
    svg.style.maxWidth = `${2.4 * width}px`;
    if (hasPositions) {
      svg.append(this.shape("rect", {x: margin, y: margin, width: columns * SIDE, height: placedRows * SIDE, fill: "none"}));
      for (let row = 1; row <= placedRows; row += this.every(placedRows))
        svg.append(this.label(this.letters(row), margin / 2, margin + (row - 0.5) * SIDE + 2.5 * this.letter));
      for (let column = 1; column <= columns; column += this.every(columns))
        svg.append(this.label(column, margin + (column - 0.5) * SIDE, margin - 4 * this.letter));
    }
    wells.forEach(({well, index}, place) => svg.append(this.rectangle(well, index, place === 0)));
    return svg;
  }

  rectangle(well, index, isFirst) {
    const {SIDE} = cellssl.PlateViews, {margin} = this, gap = 0.8;
    return this.shape("rect", {x: margin + (well[3] - 1) * SIDE + gap, y: margin + (well[2] - 1) * SIDE + gap,
      width: SIDE - 2 * gap, height: SIDE - 2 * gap, fill: this.colour(this.values[index]), "data-well": index,
      class: well[5] ? "well control" : "well", role: "img", tabindex: isFirst ? 0 : -1, "aria-label": this.words(index)});
  }

  // A pattern that all plates use.
  hatching() {
    const svg = this.shape("svg", {width: 0, height: 0, "aria-hidden": true});
    svg.style.position = "absolute";
    const pattern = this.shape("pattern", {id: "no-value", width: 3, height: 3, patternUnits: "userSpaceOnUse"});
    pattern.append(this.shape("rect", {width: 3, height: 3, fill: "#fff"}),
      this.shape("path", {d: "M0 3L3 0", stroke: "#999", "stroke-width": 0.6}));
    svg.append(pattern);
    return svg;
  }

  shape(tag, attributes) {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    return shape;
  }

  label(text, x, y) {
    const shape = this.shape("text", {x, y, "font-size": 7 * this.letter});
    shape.textContent = text;
    return shape;
  }

  letters(row) {
    const first = Math.floor((row - 1) / 26);
    return (first ? String.fromCharCode(64 + first) : "") + String.fromCharCode(65 + (row - 1) % 26);
  }

  every(count) { return count <= 12 ? 1 : count <= 24 ? 2 : 4; }

  colour(value) {
    if (value === null) return "url(#no-value)";
    const {low, high} = this.shown, {shades} = this.data;
    const place = Math.min(1, Math.max(0, (value - low) / (high - low))) * (shades.length - 1);
    const before = Math.floor(place), after = Math.min(before + 1, shades.length - 1);
    const part = (shade, at) => parseInt(shade.slice(at, at + 2), 16);
    const mixed = [1, 3, 5].map(at =>
      Math.round(part(shades[before], at) + (place - before) * (part(shades[after], at) - part(shades[before], at))));
    return `rgb(${mixed.join(",")})`;
  }

  written(value) {
    if (value === null) return "no value";
    if (this.shown.kind === "share") return `${(100 * value).toFixed(0)} %`;
    if (this.shown.kind === "count") return value.toLocaleString("en", {maximumFractionDigits: 1});
    const largest = Math.max(Math.abs(this.shown.low), Math.abs(this.shown.high));  // one number of decimals for a score
    return value.toFixed(Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(largest || 1)))));
  }

  words(index) {
    const [plate, name, , , treatment, isControl] = this.data.wells[index];
    const content = [this.data.treatments[treatment], isControl ? "control" : ""].filter(Boolean).join(", ");
    return `${this.data.plates[plate]} ${name}${content ? ` (${content})` : ""}: ${this.shown.name} ` +
      this.written(this.values[index]);
  }

  // The means of control wells at the edge and of inner ones; "" where one of them is not there.
  edge(wells) {
    const known = wells.filter(({well, index}) => well[5] && well[7] && this.values[index] !== null);
    const ofEdge = isEdge => known.filter(({well}) => well[6] === isEdge).map(({index}) => this.values[index]);
    const mean = values => this.written(values.reduce((sum, value) => sum + value, 0) / values.length);
    const outer = ofEdge(1), inner = ofEdge(0);
    if (!outer.length || !inner.length) return "";
    return `Mean of control wells: ${mean(outer)} at the edge (n = ${outer.length}), ${mean(inner)} inside (n = ${inner.length}).`;
  }

  canShowCells() { return Boolean(cellssl.showCells && cellssl.cellsOfWell); }

  showCells(well) {
    if (!this.canShowCells()) return;
    const plate = this.data.plates[well[0]];
    const name = `${plate} ${well[1]}`, cells = cellssl.cellsOfWell(plate, well[1]);
    if (cells.length) cellssl.showCells(`${name}: ${this.data.treatments[well[4]]}`, cells);
    else this.said.textContent = `No cell of ${name} is on the map, which shows the clustered cells, or a sample of them.`;
  }

  // Arrows move to the nearest well in that direction, so that Tab passes a plate in one step.
  pressed(well, event) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.showCells(well);
    }
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    if (!step) return;
    event.preventDefault();
    const along = step[0] ? 2 : 3, across = step[0] ? 3 : 2, sign = step[0] + step[1];
    const ahead = this.wellsOf[well[0]].filter(one => sign * (one.well[along] - well[along]) > 0);
    const far = one => Math.abs(one.well[along] - well[along]) + 100 * Math.abs(one.well[across] - well[across]);
    const next = ahead.sort((a, b) => far(a) - far(b))[0];
    const here = next && event.target.ownerSVGElement.querySelector(`[data-well="${next.index}"]`);
    if (!here) return;
    here.focus();
  }

  // Let Tab stop at this well and at no other one of its plate.
  stopAt(well) {
    for (const other of well.ownerSVGElement.querySelectorAll('[tabindex="0"]')) other.setAttribute("tabindex", -1);
    well.setAttribute("tabindex", 0);
  }
};
for (const element of document.querySelectorAll('[data-kind="plates"]')) new cellssl.PlateViews(element);
