// Lists that grow without making objects for each of their members.

// Numbers of rows, with one more or one less at the end.
export class Places {
  constructor() {
    this.length = 0;
    this.at = new Int32Array(64);
  }
  push(row) {
    if (this.length === this.at.length) {
      const grown = new Int32Array(this.length * 2);
      grown.set(this.at);
      this.at = grown;
    }
    this.at[this.length++] = row;
  }
  pop() {
    return this.at[--this.length];
  }
  get last() {
    return this.at[this.length - 1];
  }
}

// Texts, each once, with their places in the list.
export class Names {
  constructor() {
    this.list = [];
    this.places = new Map();
  }
  place(name) {
    let place = this.places.get(name);
    if (place === undefined) {
      place = this.list.push(name) - 1;
      this.places.set(name, place);
    }
    return place;
  }
}
