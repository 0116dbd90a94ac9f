// The map of cells: elements of the kind "map". Points on a canvas; the panels beside it are in map_panels.js.
cellssl.maps = [];

class CellMap {
  static GAP_PX = 14;  // between the outermost points and the border
  static REACH_PX = 9;  // how far from a point a pointer may be to mean it; a finger may be twice as far
  static MOVE_MS = 350;
  static PICKED = "#d00000";  // the colour of a value that is to stand out, which no value has

  constructor(root) {
    const data = JSON.parse(root.querySelector("script").textContent);
    this.ids = data.ids;
    this.columns = data.columns.map(column => new CellColumn(column));
    this.arms = data.arms.map(arm => ({...arm, x: cellssl.unpacked(arm.x), y: cellssl.unpacked(arm.y),
      columns: arm.columns.map(column => new CellColumn(column))}));
    Object.assign(this, {countBy: data.countBy, missingColour: data.missingColour,
      othersColour: data.othersColour, caption: data.caption});
    this.pictures = data.thumbnails && new CellPictures(data.thumbnails);
    this.at = new Map(this.ids.map((id, cell) => [id, cell]));
    this.order = CellMap.mixed(this.ids.length);
    this.x = new Float32Array(this.ids.length);  // from 0 to 1, as is y
    this.y = new Float32Array(this.ids.length);
    Object.assign(this, {scale: 1, left: 0, top: 0, focused: null, pinned: [], selected: null, lasso: null});
    this.pointers = new Map();
    this.panels = new CellPanels(this);
    this.canvas = this.panels.canvas;
    this.context = this.canvas.getContext("2d");
    this.listen();
    root.querySelector(".fallback").hidden = true;
    root.append(this.panels.root);
    this.showArm(data.start);
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  // Return all cells in an order without plates or wells in it, so that no group lies on top of the others.
  static mixed(count) {
    const order = Uint32Array.from({length: count}, (_, cell) => cell);
    let state = 1;
    for (let last = count - 1; last > 0; last--) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const other = Math.floor(state / 2 ** 32 * (last + 1));
      [order[last], order[other]] = [order[other], order[last]];
    }
    return order;
  }

  // --- what is shown

  get allColumns() { return [...this.arm.columns, ...this.columns]; }
  column(key) { return this.allColumns.find(column => column.key === key); }
  isOnMap(cell) { return this.arm.x[cell] !== cellssl.MISSING; }
  isShown(cell) { return this.isOnMap(cell) && !this.colour.hidden.has(this.colour.codes[cell]); }

  // Show an arm; its points move from where they were, and what is pinned or selected stays.
  showArm(place) {
    const isFirst = !this.arm;
    this.arm = this.arms[place];
    this.showColour(this.colour && this.column(this.colour.key) ? this.colour.key : "cluster");
    const goal = axis => Float32Array.from(this.arm[axis], position => position / (cellssl.MISSING - 1));
    this.move(goal("x"), goal("y"), isFirst || matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : CellMap.MOVE_MS);
    this.panels.armChanged();
  }
  showColour(key) {
    this.colour = this.column(key);
    this.stamps = null;
    this.panels.colourChanged();
    this.panels.updateSelection();
    this.redraw();
  }
  // Let the cells with a value stand out; null for none.
  pick(code) {
    this.colour.picked = code;
    this.stamps = null;
    this.redraw();
  }
  // Update what depends on which cells the legend shows.
  shownChanged() {
    this.panels.updateSelection();
    this.redraw();
  }
  move(x, y, duration) {
    const from = [this.x, this.y], token = this.moving = {};
    const start = performance.now();
    const step = now => {
      if (this.moving !== token) return;
      const done = duration ? Math.min(1, Math.max(0, (now - start) / duration)) : 1, share = done * done * (3 - 2 * done);
      const between = (old, goal) => goal.map((position, cell) => old[cell] + (position - old[cell]) * share);
      [this.x, this.y] = done < 1 ? [between(from[0], x), between(from[1], y)] : [x, y];
      if (done === 1) this.moving = null;
      this.draw();
      if (this.moving) requestAnimationFrame(step);
    };
    step(start);
  }

  // --- positions on the canvas, in CSS pixels

  screenX(cell) { return this.left + this.scale * (CellMap.GAP_PX + this.x[cell] * (this.width - 2 * CellMap.GAP_PX)); }
  screenY(cell) { return this.top + this.scale * (CellMap.GAP_PX + this.y[cell] * (this.height - 2 * CellMap.GAP_PX)); }
  inView(cell) {
    const x = this.screenX(cell), y = this.screenY(cell);
    return x >= 0 && y >= 0 && x <= this.width && y <= this.height;
  }
  // Zoom by a factor about a place, which stays where it is; all of the map fits at the scale 1.
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(200, Math.max(1, this.scale * factor));
    this.left = x - (x - this.left) * scale / this.scale;
    this.top = y - (y - this.top) * scale / this.scale;
    this.scale = scale;
    this.panels.zoomed(scale > 1);
    this.pan(0, 0);
  }
  // Pan by some pixels, without leaving the map.
  pan(right, down) {
    const within = (offset, size) => Math.min(0, Math.max(size * (1 - this.scale), offset));
    this.left = within(this.left + right, this.width);
    this.top = within(this.top + down, this.height);
    this.redraw();
  }
  reset() {
    this.zoom(0);
  }
  // Return the shown cell nearest to a place; null where none is within reach.
  nearest(x, y, reach = CellMap.REACH_PX) {
    let best = null, closest = reach ** 2;
    for (let cell = 0; cell < this.ids.length; cell++) {
      const distance = (this.screenX(cell) - x) ** 2 + (this.screenY(cell) - y) ** 2;
      if (distance <= closest && this.isShown(cell)) [best, closest] = [cell, distance];
    }
    return best;
  }
  // Return the shown cells within the view, as one reads: from left to right, in bands from top to bottom.
  readingOrder() {
    const band = cell => Math.floor(this.screenY(cell) / 24);
    return [...this.ids.keys()].filter(cell => this.isShown(cell) && this.inView(cell))
      .sort((a, b) => band(a) - band(b) || this.screenX(a) - this.screenX(b) || a - b);
  }

  // --- drawing

  redraw() {
    this.waiting ??= requestAnimationFrame(() => this.draw());
  }
  draw() {
    this.waiting = null;
    const {clientWidth, clientHeight} = this.canvas, ratio = window.devicePixelRatio || 1;
    if (!clientWidth || !clientHeight) return;  // it is not shown, as in print
    this.resize(clientWidth, clientHeight);
    if (this.canvas.width !== Math.round(clientWidth * ratio) || this.canvas.height !== Math.round(clientHeight * ratio)) {
      [this.canvas.width, this.canvas.height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    }
    this.drawPoints(this.radius(), ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.pinned.forEach((cell, place) => this.isShown(cell) && this.ring(cell, 7, String(place + 1)));
    if (this.focused !== null && this.isShown(this.focused)) this.ring(this.focused, 9);
    if (this.lasso) this.drawLasso();
    this.panels.placeTip();
  }
  // Keep what is in the middle of the view there when the canvas gets another size.
  resize(width, height) {
    if (this.width && (this.width !== width || this.height !== height)) {
      this.left *= width / this.width;
      this.top *= height / this.height;
    }
    [this.width, this.height] = [width, height];
  }
  // Draw all points: those without a value below the others, and those outside a selection pale. Pixels are copied
  // from stamps, because 10,000 calls of the canvas would not fit into a frame.
  drawPoints(radius, ratio) {
    const {context, canvas: {width, height}, colour} = this;
    if (this.image?.width !== width || this.image?.height !== height) {
      this.image = context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.stamps = null;
    }
    if (this.stamps?.radius !== radius) this.stamps = this.makeStamps(radius, ratio);
    const {stamps, pixels} = this;
    pixels.fill(0);
    const draw = (wanted, of) => {
      for (const cell of this.order) {
        if (!this.isShown(cell) || !wanted(cell)) continue;
        const left = Math.round(this.screenX(cell) * ratio) - stamps.half, top = Math.round(this.screenY(cell) * ratio) - stamps.half;
        if (left <= -stamps.size || top <= -stamps.size || left >= width || top >= height) continue;
        const {places, colours, across} = of.get(colour.codes[cell]), start = top * width + left;
        // Above and below the canvas there are no pixels to set; beside it, they would be those of the next row.
        const isWhole = left >= 0 && left + stamps.size <= width && top >= 0 && top + stamps.size <= height;
        for (let pixel = 0; pixel < places.length; pixel++) {
          const x = left + across[pixel];
          if (isWhole || x >= 0 && x < width) pixels[start + places[pixel]] = colours[pixel];
        }
      }
    };
    const isKnown = cell => colour.codes[cell] !== cellssl.MISSING, {selected} = this;
    if (selected) draw(cell => !selected.has(cell), stamps.pale);
    draw(cell => !isKnown(cell) && (!selected || selected.has(cell)), stamps.full);
    draw(cell => isKnown(cell) && (!selected || selected.has(cell)), stamps.full);
    if (colour.picked !== null) draw(cell => colour.codes[cell] === colour.picked && (!selected || selected.has(cell)), stamps.full);
    context.putImageData(this.image, 0, 0);
  }
  radius() {
    const base = this.ids.length > 4000 ? 2.2 : this.ids.length > 800 ? 2.8 : 4;
    return base * Math.min(2, this.scale ** 0.25);
  }
  // Return the pixels of a point for every value, in full and pale: their places from its top left corner, and colours.
  makeStamps(radius, ratio) {
    const half = Math.ceil((1.3 * radius + 1) * ratio), size = 2 * half + 1;
    const context = cellssl.element("canvas", {width: size, height: size}).getContext("2d", {willReadFrequently: true});
    const codes = [...this.colour.values.keys(), cellssl.MISSING];
    const stamps = strength => new Map(codes.map(code => {
      context.clearRect(0, 0, size, size);
      CellMap.point(context, half + 0.5, half + 0.5, radius * ratio, ...this.look(code));
      const {data} = context.getImageData(0, 0, size, size);
      const covered = [...Array(size * size).keys()].filter(pixel => data[4 * pixel + 3] > 64);
      for (const pixel of covered) {  // on white, so that pixels need no blending later
        const alpha = data[4 * pixel + 3] / 255 * strength;
        for (let part = 0; part < 3; part++) data[4 * pixel + part] = 255 + (data[4 * pixel + part] - 255) * alpha;
        data[4 * pixel + 3] = 255;
      }
      const colours = new Uint32Array(data.buffer), row = pixel => Math.floor(pixel / size) * this.canvas.width + pixel % size;
      return [code, {places: Int32Array.from(covered, row), colours: Uint32Array.from(covered, pixel => colours[pixel]),
        across: Int32Array.from(covered, pixel => pixel % size)}];
    }));
    return {full: stamps(1), pale: stamps(0.12), half, size, radius};
  }
  // Return colour and marker of a value.
  look(code) {
    if (code === cellssl.MISSING) return [this.missingColour, "o"];
    return code === this.colour.picked ? [CellMap.PICKED, "o"] : [this.colour.colours[code], this.colour.markers[code]];
  }
  static PLUS = [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2],
    [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]];
  static point(context, x, y, radius, colour, marker) {
    const corners = {"^": [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]], s: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
      D: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]], v: [[0, 1.2], [1.1, -0.8], [-1.1, -0.8]],
      P: CellMap.PLUS, X: CellMap.PLUS.map(([right, down]) => [0.71 * (right - down), 0.71 * (right + down)])}[marker];
    context.beginPath();
    if (corners) corners.forEach(([right, down]) => context.lineTo(x + right * radius, y + down * radius));
    else context.arc(x, y, radius, 0, 2 * Math.PI);
    context.closePath();
    context.fillStyle = colour;
    context.fill();
    context.strokeStyle = "#fff";
    context.lineWidth = 0.5;
    context.stroke();
  }
  ring(cell, radius, text = "") {
    const {context} = this, x = this.screenX(cell), y = this.screenY(cell);
    for (const [colour, width] of [["#fff", 4], ["#000", 2]]) {
      Object.assign(context, {strokeStyle: colour, lineWidth: width, font: "bold 12px sans-serif", fillStyle: "#000"});
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.stroke();
      if (text && colour === "#fff") context.strokeText(text, x + radius + 2, y - radius + 3);
    }
    context.fillText(text, x + radius + 2, y - radius + 3);
  }
  drawLasso() {
    const {context} = this;
    context.beginPath();
    this.lasso.forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    Object.assign(context, {strokeStyle: "#000", lineWidth: 1.5, fillStyle: "#0000001a"});
    context.fill();
    context.stroke();
  }

  // --- what one does with the cells

  focus(cell) {
    this.focused = cell;
    this.panels.showTip(cell);
    this.redraw();
  }
  // Step through the cells in view, as one reads.
  step(by) {
    const cells = this.readingOrder();
    if (!cells.length) return this.panels.say("No cell is in view.");
    const place = cells.indexOf(this.focused);
    const next = place < 0 ? (by > 0 ? 0 : cells.length - 1) : (place + by + cells.length) % cells.length;
    this.focus(cells[next]);
    this.panels.say(`Cell ${next + 1} of ${cells.length} in view: ${this.panels.words(cells[next])}`);
  }
  togglePin(cell) {
    const isPinned = this.pinned.includes(cell);
    this.pinned = isPinned ? this.pinned.filter(other => other !== cell) : [...this.pinned, cell];
    this.panels.showPins();
    this.panels.say(`${isPinned ? "No longer pinned" : "Pinned"}: ${this.panels.words(cell)}`);
    this.redraw();
  }
  select(title, cells) {
    this.selected = new Set(cells);
    this.panels.showSelection(title, cells);
    this.redraw();
  }
  clear() {
    Object.assign(this, {selected: null, lasso: null});
    this.panels.hideSelection();
    this.focus(null);
  }
  // Return the shown cells within a polygon on the canvas, by the parity of the edges to their left.
  within(polygon) {
    const isInside = (x, y) => polygon.reduce((inside, [x1, y1], place) => {
      const [x2, y2] = polygon[(place + 1) % polygon.length];
      return (y1 > y) !== (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1 ? !inside : inside;
    }, false);
    return [...this.ids.keys()].filter(cell => this.isShown(cell) && isInside(this.screenX(cell), this.screenY(cell)));
  }
  selectInView() {
    this.panels.opener = null;
    this.select("Cells in view", [...this.ids.keys()].filter(cell => this.isShown(cell) && this.inView(cell)));
  }

  // --- pointers and keys

  listen() {
    const on = (kind, act, options) => this.canvas.addEventListener(kind, act, options);
    on("pointerdown", event => this.down(event));
    on("pointermove", event => this.moved(event));
    on("pointerup", event => this.up(event));
    on("pointercancel", event => this.pointers.delete(event.pointerId));
    on("pointerleave", event => event.pointerType === "mouse" && !this.pointers.size && this.focus(null));
    on("wheel", event => this.wheel(event), {passive: false});
    on("keydown", event => this.key(event));
  }
  down(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.hasMoved = this.pointers.size > 1;
    this.lasso = this.pointers.size === 1 && (this.panels.isLasso || event.shiftKey) ? [[event.offsetX, event.offsetY]] : null;
  }
  moved(event) {
    const place = [event.offsetX, event.offsetY], before = this.pointers.get(event.pointerId);
    if (!before) {
      const cell = this.nearest(...place);
      if (cell !== this.focused) this.focus(cell);
      return;
    }
    if (!this.hasMoved && Math.hypot(place[0] - before[0], place[1] - before[1]) < 4) return;
    this.hasMoved = true;
    if (this.lasso) {
      this.lasso.push(place);
      this.redraw();
    } else this.drag(event.pointerId, before, place);
    this.pointers.set(event.pointerId, place);
  }
  // Pan with one pointer; with two, zoom by how far they part, about their middle.
  drag(pointer, before, place) {
    const other = [...this.pointers].find(([id]) => id !== pointer)?.[1];
    if (!other) return this.pan(place[0] - before[0], place[1] - before[1]);
    const apart = point => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
    this.pan((place[0] - before[0]) / 2, (place[1] - before[1]) / 2);
    this.zoom(apart(place) / apart(before), (place[0] + other[0]) / 2, (place[1] + other[1]) / 2);
  }
  up(event) {
    if (!this.pointers.delete(event.pointerId) || this.pointers.size) return;
    const lasso = this.lasso;
    this.lasso = null;
    if (lasso && !this.hasMoved) this.panels.say("Draw around the cells to select them; Esc leaves the lasso.");
    else if (lasso && lasso.length > 2) {
      this.panels.lassoDone();
      this.panels.opener = null;
      this.select("Selected cells", this.within(lasso));
    } else if (!this.hasMoved) {
      const cell = this.nearest(event.offsetX, event.offsetY, CellMap.REACH_PX * (event.pointerType === "touch" ? 2 : 1));
      this.focus(cell);
      if (cell !== null) this.togglePin(cell);
    }
    this.redraw();
  }
  // Zoom with the wheel where the map has the focus, or with Ctrl; where the scale is at its limit, the page scrolls on.
  wheel(event) {
    const hasFocus = document.activeElement === this.canvas, before = this.scale;
    if (!event.ctrlKey && !hasFocus) return this.panels.say("Click the map to zoom with the wheel, or hold Ctrl.");
    this.zoom(2 ** (-event.deltaY * (event.deltaMode ? 30 : 1) / 300), event.offsetX, event.offsetY);
    if (event.ctrlKey || this.scale !== before) event.preventDefault();
  }
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const focused = this.focused === null ? [] : [this.screenX(this.focused), this.screenY(this.focused)];
    const act = {
      ArrowLeft: () => this.pan(60, 0), ArrowRight: () => this.pan(-60, 0),
      ArrowUp: () => this.pan(0, 60), ArrowDown: () => this.pan(0, -60),
      "+": () => this.zoom(1.5, ...focused), "=": () => this.zoom(1.5, ...focused), "-": () => this.zoom(1 / 1.5, ...focused),
      0: () => this.reset(), n: () => this.step(1), p: () => this.step(-1), "]": () => this.step(1), "[": () => this.step(-1),
      v: () => this.selectInView(),
      Enter: () => this.focused !== null && this.isShown(this.focused) && this.togglePin(this.focused),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}

// Show the cells with these ids below the map that has most of them; closing them leads back to what has the focus now.
cellssl.showCells = (title, ids) => {
  const known = map => ids.filter(id => map.at.has(id));
  const map = [...cellssl.maps].sort((a, b) => known(b).length - known(a).length)[0];
  if (!map) return;
  map.panels.opener = document.activeElement === document.body ? null : document.activeElement;
  map.select(title, known(map).map(id => map.at.get(id)));
  map.panels.selection.scrollIntoView({block: "nearest"});
  map.panels.selection.querySelector("h3").focus({preventScroll: true});
};

// Return the ids of the cells of a well that are on a map.
cellssl.cellsOfWell = (plate, well) => {
  const ofMap = map => {
    const columns = {plate, well}, is = (key, cell) => map.column(key)?.text(cell) === columns[key];
    return map.ids.filter((_, cell) => is("plate", cell) && is("well", cell));
  };
  return [...new Set(cellssl.maps.flatMap(ofMap))];
};

for (const root of document.querySelectorAll('[data-kind="map"]')) cellssl.maps.push(new CellMap(root));
