// What stands around a map of cells: its controls, legend, the cell under the pointer, pinned cells, and a selection.
class CellPanels {
  static MONTAGE = 60;  // cells shown of a selection
  static LISTED = 12;  // amounts with more values than this have a colour bar as their legend
  static numbers = 0;

  constructor(map) {
    this.map = map;
    const make = cellssl.element, button = (text, act, label = text) => this.button(text, act, label);
    this.number = CellPanels.numbers++;
    this.armChoice = this.choice(map.arms.map(arm => arm.name), place => map.showArm(Number(place)));
    this.colourChoice = make("select", {onchange: () => map.showColour(this.colourChoice.value)});
    this.lassoButton = button("Lasso", () => this.setLasso(!this.isLasso), "Lasso: draw around cells to select them");
    this.lassoButton.setAttribute("aria-pressed", "false");
    this.canvas = make("canvas", {className: "map-points", tabIndex: 0});
    this.canvas.setAttribute("role", "application");
    this.tip = make("div", {className: "map-tip", hidden: true});
    this.stage = make("div", {className: "map-stage"}, this.canvas, this.tip);
    this.legend = make("div", {className: "map-legend"});
    this.pins = make("div", {className: "map-pins"});
    this.selection = make("section", {className: "map-selection", hidden: true});
    this.status = make("p", {className: "map-status"});
    this.status.setAttribute("role", "status");
    this.what = make("p", {className: "map-status"});
    this.help = make("p", {id: `map-help-${this.number}`, className: "map-help"}, CellPanels.HELP);
    this.canvas.setAttribute("aria-describedby", this.help.id);
    this.root = make("div", {className: "cell-map"},
      make("div", {className: "map-controls"},
        map.arms.length > 1 ? make("label", {}, "Arm", this.armChoice) : null,
        make("label", {}, "Colour by", this.colourChoice),
        button("+", () => map.zoom(1.5), "Zoom in"), button("−", () => map.zoom(1 / 1.5), "Zoom out"),
        button("Reset view", () => map.reset()), this.lassoButton, button("Cells in view", () => map.selectInView())),
      make("div", {className: "map-body"}, this.stage, make("div", {className: "map-side"}, this.legend, this.pins)),
      this.what, this.status, this.selection, this.help);
    this.root.addEventListener("keydown", event => event.key === "Escape" && event.target.tagName !== "SELECT" && this.escape());
  }
  escape() {
    if (this.isLasso) this.setLasso(false);
    else this.close();
  }
  static HELP = "Point at a cell to see it, click it to pin it. Drag to pan; zoom with two fingers, Ctrl and the wheel, or, after a " +
    "click on the map, the wheel alone. Hold Shift " +
    "and drag, or use “Lasso”, to select cells: they are shown, counted, and can be saved as a table. An entry of the " +
    "legend hides or shows its cells; hidden cells are not counted. Keys, once the map has the focus: arrows pan, + and − zoom, 0 shows all, n and p " +
    "step through the cells in view, Enter pins, v shows the cells in view. Esc leaves the lasso, or " +
    "closes the selected cells.";

  button(text, act, label = text) {
    const made = cellssl.element("button", {type: "button", onclick: act, title: label}, text);
    made.setAttribute("aria-label", label);
    return made;
  }
  choice(names, act) {
    const options = names.map((name, place) => cellssl.element("option", {value: place}, name));
    return cellssl.element("select", {onchange: event => act(event.target.value)}, ...options);
  }
  say(text) { this.status.textContent = text; }

  // --- controls

  get isLasso() { return this.lassoButton.getAttribute("aria-pressed") === "true"; }
  setLasso(isOn) {
    this.lassoButton.setAttribute("aria-pressed", String(isOn));
    this.stage.classList.toggle("lasso", isOn);
  }
  lassoDone() { this.setLasso(false); }
  zoomed(isZoomed) { this.stage.classList.toggle("zoomed", isZoomed); }

  armChanged() {
    const map = this.map, lacking = map.ids.length - this.onMap().length;
    this.armChoice.value = map.arms.indexOf(map.arm);
    const counted = `${this.onMap().length.toLocaleString("en")} of ${map.ids.length.toLocaleString("en")} cells`;
    this.what.textContent = `${map.arm.what}; ${counted}${lacking ? ": the others are on the maps of other arms" : ""}.`;
    this.canvas.setAttribute("aria-label", `Map of cells. ${this.what.textContent} Press n for the first cell.`);
    this.showPins();
    this.updateSelection();
    if (map.focused !== null) this.showTip(map.focused);
  }
  shown() { return [...this.map.ids.keys()].filter(cell => this.map.isShown(cell)); }
  onMap() { return [...this.map.ids.keys()].filter(cell => this.map.isOnMap(cell)); }

  // --- the legend

  colourChanged() {
    const map = this.map, make = cellssl.element;
    const useful = map.allColumns.filter(column => column.values.length > 1 || column.key === "cluster");
    this.colourChoice.replaceChildren(...useful.map(column => make("option", {value: column.key}, column.name)));
    this.colourChoice.value = map.colour.key;
    const counts = map.colour.counts(this.onMap());
    const {colour} = map, others = counts.filter(([code]) => colour.others.has(code));
    const isBar = colour.scale && (colour.values.length > CellPanels.LISTED || new Set(colour.colours).size < colour.values.length);
    const onBar = ([code]) => code !== cellssl.MISSING && !(colour.scale.logarithmic && colour.values[code] <= 0);
    const entries = counts.filter(count => isBar ? !onBar(count) : !others.includes(count));
    const all = this.button("Show all", () => this.hide([], "Show all"));
    const none = this.button("Hide all", () => this.hide(counts.map(([code]) => code), "Hide all"));
    this.legend.replaceChildren(make("strong", {}, map.colour.name), ...(isBar ? this.ramp() : []),
      make("ul", {}, ...entries.map(([code, count]) => make("li", {}, this.entry([code], count))),
        ...(others.length ? [make("li", {}, this.entry(others.map(([code]) => code), others.reduce((sum, one) => sum + one[1], 0)))] : [])),
      ...(others.length ? [this.pickChoice()] : []),
      ...(entries.length > 2 ? [make("div", {className: "map-actions"}, all, none)] : []));
  }
  // Hide these values and no others; the button that did it, which is made again, keeps the focus.
  hide(codes, button) {
    this.map.colour.hidden = new Set(codes);
    this.colourChanged();
    this.map.shownChanged();
    [...this.legend.querySelectorAll("button")].find(one => one.textContent === button)?.focus();
  }
  // Return an entry of the legend: one value, or all values that have no look of their own.
  entry(codes, count) {
    const {colour} = this.map, make = cellssl.element, [first] = codes, isOthers = colour.others.has(first);
    const value = first === cellssl.MISSING ? "none" : colour.textOf(colour.values[first]);
    const text = isOthers ? `others (${codes.length})` : value, isHidden = () => codes.every(code => colour.hidden.has(code));
    const swatch = make("canvas", {width: 28, height: 28});
    CellMap.point(swatch.getContext("2d"), 14, 14, 9, ...(isOthers ? [this.map.othersColour, "o"] : this.map.look(first)));
    const made = this.button("", () => {
      const wasHidden = isHidden();
      for (const code of codes) wasHidden ? colour.hidden.delete(code) : colour.hidden.add(code);
      made.setAttribute("aria-pressed", String(wasHidden));
      this.map.shownChanged();
    }, `${text}: ${count} cells, show or hide`);
    made.append(swatch, make("span", {}, text), make("span", {className: "count"}, count.toLocaleString("en")));
    made.setAttribute("aria-pressed", String(!isHidden()));
    return made;
  }
  // Return a choice of one value among the others, whose cells then stand out.
  pickChoice() {
    const {colour} = this.map, make = cellssl.element, codes = [...colour.others];
    const options = codes.map(code => make("option", {value: code}, colour.textOf(colour.values[code])));
    const select = make("select", {onchange: () => this.map.pick(select.value === "" ? null : Number(select.value))},
      make("option", {value: ""}, "none"), ...options);
    select.value = colour.picked ?? "";
    return make("label", {className: "map-pick"}, "Show one of the others in red ", select);
  }
  // Return the scale of amounts: colours at equal steps, and the values at its ends and in its middle.
  ramp() {
    const {scale} = this.map.colour, make = cellssl.element, bar = make("div", {className: "map-ramp"});
    bar.style.background = `linear-gradient(to right, ${scale.shades.join(", ")})`;
    const values = scale.values.map(value => make("span", {}, String(Number(value.toPrecision(3)))));
    return [bar, make("div", {className: "map-ends"}, ...values), ...(scale.logarithmic ? [make("div", {}, "logarithmic scale")] : [])];
  }

  // --- one cell

  // Return what is known about a cell, as pairs of names and texts; a treatment says compound and dose.
  facts(cell) {
    const said = this.map.column("treatment") ? ["compound", "dose_micromolar"] : [];
    const known = this.map.allColumns.filter(column => !said.includes(column.key));
    return known.map(column => [column.name, column.text(cell)]).filter(([, text]) => text !== "");
  }
  // Return what one sees at once: treatment, well and plate, cluster, and what the map is coloured by.
  shortFacts(cell) {
    const {map} = this, text = key => map.column(key)?.text(cell) ?? "";
    const named = column => `${column.name} ${column.text(cell) || "none"}`;
    const place = [text("well") && `well ${text("well")}`, text("plate") && `plate ${text("plate")}`].filter(Boolean).join(", ");
    const isSaid = ["cluster", "treatment", "compound", "well", "plate"].includes(map.colour.key);
    return [text("treatment") || (text("label") && `label ${text("label")}`), place, named(map.column("cluster")), isSaid ? "" : named(map.colour)].filter(Boolean);
  }
  words(cell) { return this.facts(cell).map(([name, text]) => `${name} ${text}`).join(", "); }
  factList(cell) {
    const make = cellssl.element, rows = this.facts(cell).flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);
    return make("dl", {className: "map-facts"}, ...rows);
  }
  picture(cell, channel = null) {
    const canvas = cellssl.element("canvas");
    this.map.pictures.draw(canvas, cell, channel);
    return canvas;
  }
  showTip(cell) {
    this.tip.hidden = cell === null;
    if (cell === null) return;
    const lines = this.shortFacts(cell).map(line => cellssl.element("div", {}, line));
    this.tip.replaceChildren(...(this.map.pictures ? [this.picture(cell)] : []), cellssl.element("div", {}, ...lines));
    this.placeTip();
  }
  // Put the tip beside its point, on the side where there is room.
  placeTip() {
    const {map, tip} = this, cell = map.focused;
    if (cell === null) return;
    tip.hidden = !map.isShown(cell) || !map.inView(cell);
    const x = map.screenX(cell), y = map.screenY(cell), width = tip.offsetWidth, height = tip.offsetHeight;
    const left = x + 14 + width > map.width ? x - 14 - width : x + 14;
    tip.style.left = `${Math.max(2, Math.min(left, map.width - width - 2))}px`;
    tip.style.top = `${Math.max(2, Math.min(y + 10, map.height - height - 2))}px`;
  }
  showPins() {
    const {map} = this, make = cellssl.element;
    const hint = make("p", {}, "Click a point to pin its cell here, with every channel.");
    const cards = map.pinned.map((cell, place) => make("div", {className: "map-pin"},
      make("div", {className: "map-actions"}, make("strong", {}, `${place + 1}. ${map.ids[cell]}`),
        this.button("Remove", () => {
          map.togglePin(cell);
          (this.pins.querySelector("button") ?? map.canvas).focus({preventScroll: true});
        }, `Remove pinned cell ${place + 1}`)),
      map.pictures ? this.channels(cell) : null, this.factList(cell),
      map.isOnMap(cell) ? null : make("p", {}, "This cell is not on the map of this arm.")));
    this.pins.replaceChildren(make("h3", {}, "Pinned cells"), ...(cards.length ? cards.reverse() : [hint]));
  }
  // Return all channels of a cell composed, with a scale bar, and every channel in grey.
  channels(cell) {
    const {pictures} = this.map, make = cellssl.element, bar = pictures.scaleBar();
    const line = bar && make("i");
    if (bar) line.style.width = `${100 * bar.share}%`;
    const figure = (canvas, text) => make("figure", {}, canvas, make("figcaption", {}, text));
    const composed = make("div", {className: "map-scale"}, this.picture(cell), line);
    const alone = pictures.channels.length > 1 ? pictures.channels : [], what = alone.length ? "composed" : pictures.channels[0].name;
    return make("div", {className: "map-channels"}, figure(composed, bar ? `bar: ${bar.text}` : what),
      ...alone.map((channel, place) => figure(this.picture(cell, place), channel.name)));
  }

  // --- selected cells

  hideSelection() { this.selection.hidden = true; }
  // Close the selected cells; the focus goes back to where they were asked for.
  close() {
    const goal = this.opener?.isConnected ? this.opener : null;
    const hadFocus = this.selection.contains(document.activeElement);
    this.opener = null;
    this.map.clear();
    if (goal) goal.focus();
    else if (hadFocus) this.canvas.focus({preventScroll: true});
  }
  updateSelection() {
    if (this.map.selected) this.showSelection(this.selectionTitle, [...this.map.selected]);
  }
  // Show those of some cells that the map shows now, and say how many others there are.
  showSelection(title, cells) {
    const {map} = this, make = cellssl.element, on = cells.filter(cell => map.isShown(cell));
    this.selectionTitle = title;
    const total = `${on.length.toLocaleString("en")} of ${this.shown().length.toLocaleString("en")} cells`;
    const lacking = cells.filter(cell => !map.isOnMap(cell)).length, hidden = cells.length - on.length - lacking;
    const more = count => `${count.toLocaleString("en")} ${on.length ? "more " : ""}of these cells ${count === 1 ? "is" : "are"}`;
    const unseen = [hidden ? `${more(hidden)} hidden by the legend.` : "",
      lacking ? `${more(lacking)} on the maps of other arms only.` : ""].filter(Boolean).join(" ");
    this.say(`${title}: ${total}. ${unseen}`);
    const heading = make("h3", {tabIndex: -1}, `${title}: ${total}`);
    this.selection.replaceChildren(
      make("div", {className: "map-actions"}, heading, on.length ? this.download(on) : null,
        this.button(this.opener ? "Close and go back" : "Close", () => this.close())),
      ...(unseen ? [make("p", {}, unseen)] : []),
      ...(on.length && map.pictures ? this.montage(on) : []), ...(on.length ? [this.counts(on)] : []));
    this.selection.hidden = false;
  }
  // Return pictures of some of the cells, evenly spread over plates and wells; a click pins one.
  montage(cells) {
    const {map} = this, make = cellssl.element, count = Math.min(cells.length, CellPanels.MONTAGE);
    const some = Array.from({length: count}, (_, place) => cells[Math.floor(place * cells.length / count)]);
    const tiles = some.map(cell => {
      const tile = this.button("", () => map.togglePin(cell), this.words(cell));
      tile.append(this.picture(cell));
      return tile;
    });
    const which = cells.length > count ? `${count} of them, evenly spread over plates and wells` : "All of them";
    return [make("div", {className: "map-montage"}, ...tiles), make("p", {}, `${which}; all with the same contrast. ${map.caption}`)];
  }
  counts(cells) {
    const {map} = this, make = cellssl.element, column = map.column(map.countBy);
    const all = new Map(column.counts(this.shown())), share = (part, whole) => `${(100 * part / whole).toFixed(1)} %`;
    const rows = column.counts(cells).map(([code, count]) => [code, count, all.get(code)])
      .sort((a, b) => b[1] / b[2] - a[1] / a[2] || b[1] - a[1]);
    const names = [column.name, "selected", "on the map", "share"], kind = place => place ? "number" : "";
    const head = names.map((text, place) => make("th", {className: kind(place), scope: "col"}, text));
    const texts = ([code, count, whole]) => [code === cellssl.MISSING ? "none" : column.textOf(column.values[code]),
      count.toLocaleString("en"), whole.toLocaleString("en"), share(count, whole)];
    const body = rows.map(row => make("tr", {}, ...texts(row).map((text, place) => {
      const cell = make("td", {className: kind(place)}, text);
      cell.dataset.head = names[place];  // on a phone, the page shows a row as a card with these names
      return cell;
    })));
    return make("div", {className: "table"}, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
  }
  // Return a link that saves the cells as a table.
  download(cells) {
    const {map} = this, keys = ["plate", "well", "compound", "dose_micromolar", "control", "label", "moa", "true_phenotype"];
    const known = keys.map(key => map.columns.find(column => column.key === key)).filter(Boolean);
    const of = arm => arm.columns.find(column => column.key === "cluster");
    const ofArm = arm => ["cluster", "map_x", "map_y"].map(name => `${name} of ${arm.name}`);
    const header = ["cell_id", ...known.map(column => column.key), ...map.arms.flatMap(ofArm)];
    const value = (column, cell) => column.values[column.codes[cell]] ?? "";
    const at = (positions, [low, high], sign, cell) => positions[cell] === cellssl.MISSING ? ""
      : Number((sign * (low + positions[cell] / (cellssl.MISSING - 1) * (high - low))).toPrecision(6));
    const inArm = (arm, cell) => [value(of(arm), cell), at(arm.x, arm.ends[0], 1, cell), at(arm.y, arm.ends[1], -1, cell)];
    const rows = cells.map(cell => [map.ids[cell], ...known.map(column => value(column, cell)), ...map.arms.flatMap(arm => inArm(arm, cell))]);
    if (this.saved) URL.revokeObjectURL(this.saved);
    this.saved = URL.createObjectURL(new Blob([cellssl.csv([header, ...rows])], {type: "text/csv"}));
    return cellssl.element("a", {href: this.saved, download: "cells.csv"}, "Save these cells as a CSV table");
  }
}
