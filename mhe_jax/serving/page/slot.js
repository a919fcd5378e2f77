// A place for a picture: drawn on it, dropped, pasted, or chosen as a file. A file is sent as it is.

export class Slot {
  constructor(place, canvas, file, clear) {
    this.place = place;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.clear();
    file.addEventListener("change", () => file.files[0] && this.take(file.files[0]));
    clear.addEventListener("click", () => {
      file.value = "";
      this.clear();
    });
    place.addEventListener("dragover", (event) => {
      event.preventDefault();
      place.classList.add("over");
    });
    place.addEventListener("dragleave", () => place.classList.remove("over"));
    place.addEventListener("drop", (event) => {
      event.preventDefault();
      place.classList.remove("over");
      if (event.dataTransfer.files[0]) this.take(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      const pasted = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
      const isNext = this.empty && [...document.querySelectorAll(".slot:not([hidden])")].find((one) => one.dataset.empty) === place;
      if (pasted && isNext) {
        event.stopImmediatePropagation();
        this.take(pasted);
      }
    });
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.draw(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.last = null));
  }

  clear() {
    this.file = null;
    this.last = null;
    this.setEmpty(true);
    this.context.fillStyle = "#fff";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  setEmpty(empty) {
    this.empty = empty;
    if (empty) this.place.dataset.empty = "yes";
    else delete this.place.dataset.empty;
  }

  // Shows a file; what is sent is the file itself.
  async take(file) {
    this.clear();
    this.file = file;
    this.setEmpty(false);
    const shown = await createImageBitmap(file).catch(() => null);
    if (!shown || this.file !== file) return;
    const { width, height } = this.canvas;
    const scale = Math.min(width / shown.width, height / shown.height);
    const [w, h] = [shown.width * scale, shown.height * scale];
    this.context.drawImage(shown, (width - w) / 2, (height - h) / 2, w, h);
  }

  begin(event) {
    if (this.file) this.clear();
    this.canvas.setPointerCapture(event.pointerId);
    this.last = this.at(event);
    this.draw(event);
  }

  draw(event) {
    if (!this.last) return;
    const here = this.at(event);
    Object.assign(this.context, { lineWidth: this.canvas.width / 14, lineCap: "round", strokeStyle: "#000" });
    this.context.beginPath();
    this.context.moveTo(...this.last);
    this.context.lineTo(...here);
    this.context.stroke();
    this.last = here;
    this.setEmpty(false);
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  // Of the file, or of the drawing as a PNG.
  async base64() {
    const content = this.file ?? (await new Promise((done) => this.canvas.toBlob(done, "image/png")));
    const address = await new Promise((done, failed) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.onerror = () => failed(new Error("The file cannot be read."));
      reader.readAsDataURL(content);
    });
    return address.slice(address.indexOf(",") + 1);
  }
}
