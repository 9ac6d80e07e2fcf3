/* What the scripts of the page share: decoding, making elements, numbers, colours.
 *
 * Everything that comes from data enters the page as text (textContent, fillText), never as markup.
 */
"use strict";

function decodeBytes(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function decodeArray(packed) {
  const bytes = decodeBytes(packed.bdata);
  if (packed.dtype === "f4") return new Float32Array(bytes.buffer);
  if (packed.dtype === "u2") return new Uint16Array(bytes.buffer);
  return bytes;
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "text") made.textContent = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function formatNumber(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

/* Stops of a colour scale as `steps` colours; `from` leaves out the darkest, which vanish on a dark page. */
function scaleColours(stops, steps, from) {
  const channels = stops.map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const colours = [];
  for (let i = 0; i < steps; i++) {
    const at = (from + ((1 - from) * i) / (steps - 1)) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const mixed = channels[low].map((c, k) => Math.round(c + (at - low) * (channels[low + 1][k] - c)));
    colours.push(`rgb(${mixed.join(",")})`);
  }
  return colours;
}

/* A fixed shuffle, so that no category is drawn on top because its rows come last. */
function shuffledIndex(n, seed) {
  const index = Uint32Array.from({ length: n }, (_, i) => i);
  let state = (seed * 2654435761 + 12345) >>> 0;
  for (let i = n - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 4294967296) * (i + 1));
    [index[i], index[j]] = [index[j], index[i]];
  }
  return index;
}
