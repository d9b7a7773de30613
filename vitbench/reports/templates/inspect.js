"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

function unit(row) {
  const bytes = Uint8Array.from(atob(row.tokens), (c) => c.charCodeAt(0));
  const codes = new Int8Array(bytes.buffer), k = row.channels, n = codes.length / k;
  const x = new Float32Array(codes.length);
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < k; j++) sum += codes[i * k + j] ** 2;
    const scale = 1 / Math.max(Math.sqrt(sum), 1e-6);
    for (let j = 0; j < k; j++) x[i * k + j] = codes[i * k + j] * scale;
  }
  return { x, k, n };
}

function cosines({ x, k, n }, at) {
  const out = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < k; j++) sum += x[i * k + j] * x[at * k + j];
    out[i] = sum;
  }
  return out;
}

for (const section of document.querySelectorAll("[data-image]")) {
  const image = data.images[section.dataset.image], { h, w } = image;
  const rows = image.rows.map(unit);
  let at = Math.floor(h / 2) * w + Math.floor(w / 2);

  function draw() {
    for (const canvas of section.querySelectorAll("canvas")) {
      const values = cosines(rows[canvas.dataset.row], at), low = Math.min(...values);
      canvas.width = w; canvas.height = h;
      const context = canvas.getContext("2d"), pixels = context.createImageData(w, h);
      values.forEach((value, i) => {
        const share = (value - low) / Math.max(1 - low, 1e-6), last = data.lut.length - 1;
        const [r, g, b] = data.lut[Math.min(Math.round(share * last), last)];
        pixels.data.set([r, g, b, 255], 4 * i);
      });
      context.putImageData(pixels, 0, 0);
      canvas.values = values;
      const sign = canvas.nextElementSibling, row = Math.floor(at / w), column = at % w;
      sign.style.left = `${(100 * (column + 0.5)) / w}%`; sign.style.top = `${(100 * (row + 0.5)) / h}%`;
      say(canvas, `${low.toFixed(2)} to 1`);
      canvas.setAttribute("aria-label", `similarity to the patch in row ${row + 1}, column ${column + 1}`);
    }
  }
  function say(canvas, text) { canvas.closest("figure").querySelector("output").textContent = text; }
  function cell(event, frame) {
    const box = frame.getBoundingClientRect();
    const part = (v, size, n) => Math.min(Math.max(Math.floor((v / size) * n), 0), n - 1);
    return part(event.clientY - box.top, box.height, h) * w + part(event.clientX - box.left, box.width, w);
  }
  section.addEventListener("click", (event) => {
    const frame = event.target.closest(".frame");
    // A mosaic of registers has no one cell under the pointer.
    if (!frame || frame.closest("figure").dataset.kind === "registers") return;
    at = cell(event, frame); draw();
  });
  section.addEventListener("pointermove", (event) => {
    const canvas = event.target;
    if (canvas.tagName === "CANVAS" && canvas.values) say(canvas, canvas.values[cell(event, canvas)].toFixed(2));
  });
  section.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step || event.target.tagName !== "CANVAS") return;
    const row = Math.min(Math.max(Math.floor(at / w) + step[0], 0), h - 1), column = Math.min(Math.max((at % w) + step[1], 0), w - 1);
    at = row * w + column; draw(); event.preventDefault();
  });
  draw();
}
