// The data of a map of cells: columns of values with a colour each, small pictures of cells, and tables to save.
cellssl.MISSING = 0xFFFF;

// Return an element with properties and children; text goes in as text, whatever it holds.
cellssl.element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter(child => child !== null));
  return made;
};

// Return the numbers that Python packed as base64 of two bytes each.
cellssl.unpacked = text => {
  const view = new DataView(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer);
  return Uint16Array.from({length: view.byteLength / 2}, (_, place) => view.getUint16(2 * place, true));
};

// One value per cell: codes of distinct values, each with a colour, a marker, and whether it is shown.
class CellColumn {
  constructor({key, name, values, colours, markers, codes, amount, others, scale}) {
    Object.assign(this, {key, name, values, colours, markers, amount, scale, codes: cellssl.unpacked(codes)});
    this.others = new Set(others);  // codes that share one look, because there are more values than looks
    this.hidden = new Set();
    this.picked = null;  // the code of the value that stands out
  }
  text(cell) {
    const value = this.values[this.codes[cell]];
    return value === undefined ? "" : this.textOf(value);
  }
  textOf(value) {
    return this.amount ? String(Number(value.toPrecision(4))) : value;
  }
  // Return [code, cells] for the values of some cells, in the order of the values; cells without a value come last.
  counts(cells) {
    const found = new Map();
    for (const cell of cells) found.set(this.codes[cell], (found.get(this.codes[cell]) ?? 0) + 1);
    return [...found].sort((a, b) => a[0] - b[0]);
  }
}

// Small pictures of cells: their channels lie three to a sheet, as red, green and blue, and are composed here.
class CellPictures {
  constructor(data) {
    Object.assign(this, data);
    this.loaded = new Map();
    const size = {width: this.side, height: this.side};
    this.context = cellssl.element("canvas", size).getContext("2d", {willReadFrequently: true});
  }
  // Return the promise of a sheet's image, which is decoded when it is first wanted.
  sheet(group, number) {
    const source = this.sheets[group][number];
    if (!this.loaded.has(source)) {
      const image = cellssl.element("img", {src: source});
      this.loaded.set(source, image.decode().then(() => image));
    }
    return this.loaded.get(source);
  }
  // Return the promise of the levels of every channel of a cell, one list of pixels per channel.
  async levels(cell) {
    const number = Math.floor(cell / this.perSheet), place = cell % this.perSheet, side = this.side;
    const left = place % this.columns * side, top = Math.floor(place / this.columns) * side;
    const images = await Promise.all(this.sheets.map((_, group) => this.sheet(group, number)));
    const pixels = images.map(image => {
      this.context.drawImage(image, left, top, side, side, 0, 0, side, side);
      return this.context.getImageData(0, 0, side, side).data;
    });
    return this.channels.map((_, channel) =>
      Uint8Array.from({length: side * side}, (_, pixel) => pixels[Math.floor(channel / 3)][4 * pixel + channel % 3]));
  }
  // Draw a cell on a canvas: all channels in their colours, or one channel in grey.
  async draw(canvas, cell, channel = null) {
    canvas.width = canvas.height = this.side;
    canvas.dataset.wanted = cell;
    const levels = await this.levels(cell), colours = this.channels.map(each => each.colour);
    if (canvas.dataset.wanted !== String(cell)) return;  // the pointer has moved on meanwhile
    const shown = new ImageData(this.side, this.side);
    for (let pixel = 0; pixel < this.side ** 2; pixel++) {
      for (let part = 0; part < 3; part++) {
        shown.data[4 * pixel + part] = channel === null
          ? levels.reduce((sum, each, place) => sum + each[pixel] * colours[place][part], 0) : levels[channel][pixel];
      }
      shown.data[4 * pixel + 3] = 255;
    }
    canvas.getContext("2d").putImageData(shown, 0, 0);
    canvas.dataset.drawn = cell;
  }
  // Return a scale bar as a share of a picture's width, with its text; null where the size of a pixel is unknown.
  scaleBar() {
    if (this.pixelUm === null) return null;
    const width = this.side * this.pixelUm, power = 10 ** Math.floor(Math.log10(width / 3));
    const length = [5, 2, 1].map(step => step * power).find(each => each <= width / 3);
    return {share: length / width, text: `${Number(length.toPrecision(2))} µm`};
  }
}

// Return rows as a CSV file whose cells a spreadsheet shows and does not execute; numbers stay as they are.
cellssl.csv = rows => {
  const number = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/;
  const safe = text => /^'*[=+\-@\t\r\n]/.test(text) && !number.test(text) ? `'${text}` : text;
  const quoted = text => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  return rows.map(row => row.map(cell => quoted(safe(String(cell)))).join(",") + "\n").join("");
};
