// The body in 3D on the page of a run: in front of its picture, turned by dragging and by keys.
"use strict";

const byId = (id) => document.getElementById(id);
const canvas = byId("canvas");
const FOCAL = 5000 / 112; // of the crop's camera, in half sides of the crop
const SKIN = [0.68, 0.78, 0.9];
const AMBIENT = 0.2, KEY = 0.6, FILL = 0.4, KEY_LIGHT = [-0.545, -0.636, -0.545]; // as in the panel
const DEPTH = 4; // metres before and behind the body's middle that are drawn
const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const faces = new Uint16Array(bytesOf(byId("faces").textContent).buffer);

// Vertices from the middle of the body, their normals, and where the middle stands in the camera's frame (x right,
// y down, z forward, metres).
function readBody(text) {
  const { low, step, cam_t, vertices } = JSON.parse(text);
  const steps = new Uint16Array(bytesOf(vertices).buffer);
  const points = Float32Array.from(steps, (value, i) => (value - 32767.5) * step[i % 3]);
  return { points, normals: normalsOf(points), middle: low.map((l, axis) => l + 32767.5 * step[axis] + cam_t[axis]) };
}

function normalsOf(points) {
  const normals = new Float32Array(points.length);
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const [ux, uy, uz] = [0, 1, 2].map((k) => points[b + k] - points[a + k]);
    const [vx, vy, vz] = [0, 1, 2].map((k) => points[c + k] - points[a + k]);
    const cross = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx]; // as long as twice the face's area
    for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) normals[corner + k] += cross[k];
  }
  for (let v = 0; v < normals.length; v += 3) {
    const length = Math.hypot(normals[v], normals[v + 1], normals[v + 2]) || 1;
    for (let k = 0; k < 3; k++) normals[v + k] /= length;
  }
  return normals;
}

// Rows of the matrix that turns the near side of the body to the right by `yaw`, then down by `pitch` (radians).
function turnMatrix({ yaw, pitch }) {
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  return [[cy, 0, -sy], [-sp * sy, cp, -sp * cy], [cp * sy, sp, cp * cy]];
}

const VERTEX_SHADER = `
attribute vec3 point, normal;
uniform mat3 turn;
uniform vec3 middle, look; // look: zoom and shift
varying vec3 facing;
void main() {
  vec3 p = turn * point + middle;
  facing = turn * normal;
  vec2 xy = look.x * ${FOCAL} * vec2(p.x, -p.y) + look.yz * p.z;
  gl_Position = vec4(xy, (p.z - middle.z) / ${DEPTH.toFixed(1)} * p.z, p.z);
}`;
const FRAGMENT_SHADER = `
precision mediump float;
varying vec3 facing;
void main() {
  vec3 n = normalize(facing);
  float light = ${AMBIENT} + ${KEY} * max(dot(n, vec3(${KEY_LIGHT})), 0.0) + ${FILL} * max(-n.z, 0.0);
  gl_FragColor = vec4(min(light * vec3(${SKIN}), 1.0), 1.0);
}`;

// A function that draws with WebGL; null where there is none.
function glPainter() {
  const gl = canvas.getContext("webgl");
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
  const buffers = { point: gl.createBuffer(), normal: gl.createBuffer() };
  const uniform = (name) => gl.getUniformLocation(program, name);
  let loaded = null;
  return (body, { zoom, shift, ...angles }) => {
    if (loaded !== body) {
      for (const [name, values] of [["point", body.points], ["normal", body.normals]]) {
        const place = gl.getAttribLocation(program, name);
        gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
        gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
        gl.enableVertexAttribArray(place);
        gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
      }
      loaded = body;
    }
    const [x, y, z] = turnMatrix(angles);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix3fv(uniform("turn"), false, [0, 1, 2].flatMap((k) => [x[k], y[k], z[k]]));
    gl.uniform3fv(uniform("middle"), body.middle);
    gl.uniform3f(uniform("look"), zoom, ...shift);
    gl.drawElements(gl.TRIANGLES, faces.length, gl.UNSIGNED_SHORT, 0);
  };
}

// The same without WebGL: faces turned to the camera, the farthest first, each in one colour.
function flatPainter() {
  const pen = canvas.getContext("2d");
  return (body, { zoom, shift, ...angles }) => {
    const [rx, ry, rz] = turnMatrix(angles), { points, normals, middle } = body;
    const along = (row, values, v) => row[0] * values[v] + row[1] * values[v + 1] + row[2] * values[v + 2];
    const count = points.length / 3, half = canvas.width / 2;
    const [px, py, depth, light] = [0, 1, 2, 3].map(() => new Float32Array(count));
    for (let i = 0, v = 0; i < count; i++, v += 3) {
      depth[i] = along(rz, points, v) + middle[2];
      px[i] = half * (1 + zoom * FOCAL * (along(rx, points, v) + middle[0]) / depth[i] + shift[0]);
      py[i] = half * (1 + zoom * FOCAL * (along(ry, points, v) + middle[1]) / depth[i] - shift[1]);
      const n = [rx, ry, rz].map((row) => along(row, normals, v));
      const key = n[0] * KEY_LIGHT[0] + n[1] * KEY_LIGHT[1] + n[2] * KEY_LIGHT[2];
      light[i] = AMBIENT + KEY * Math.max(key, 0) + FILL * Math.max(-n[2], 0);
    }
    const order = [];
    for (let f = 0; f < faces.length; f += 3) {
      const [a, b, c] = [faces[f], faces[f + 1], faces[f + 2]];
      const area = (px[b] - px[a]) * (py[c] - py[a]) - (px[c] - px[a]) * (py[b] - py[a]);
      if (area < 0) order.push([depth[a] + depth[b] + depth[c], a, b, c]);
    }
    order.sort((one, other) => other[0] - one[0]);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    for (const [, a, b, c] of order) {
      const bright = Math.min(255, 85 * (light[a] + light[b] + light[c]));
      pen.fillStyle = pen.strokeStyle = `rgb(${SKIN.map((value) => Math.min(255, value * bright))})`;
      pen.beginPath();
      pen.moveTo(px[a], py[a]);
      pen.lineTo(px[b], py[b]);
      pen.lineTo(px[c], py[c]);
      pen.closePath();
      pen.fill();
      pen.stroke(); // covers the seams between faces
    }
  };
}

let paint = null, body = null, view = null;

function draw() {
  if (!body || !canvas.clientWidth) return; // nobody is shown
  const side = Math.round(canvas.clientWidth * devicePixelRatio);
  if (canvas.width !== side) canvas.width = canvas.height = side;
  paint ||= glPainter() || flatPainter();
  paint(body, view);
  const [x, y] = view.shift;
  byId("plane").style.transform = `translate(${50 * x}%, ${-50 * y}%) scale(${view.zoom})`;
  const turned = Math.abs(view.yaw) + Math.abs(view.pitch);
  byId("backdrop").style.opacity = byId("with-picture").checked ? Math.max(0.3, 1 - turned) : 0;
}

function turn(yaw, pitch) {
  view.yaw += yaw;
  view.pitch = Math.min(Math.max(view.pitch + pitch, -Math.PI / 2), Math.PI / 2);
  draw();
}

// Zoom so that what is at (x, y) of the canvas, in CSS pixels from its corner, stays there.
function zoomAt(factor, x, y) {
  const zoom = Math.min(Math.max(view.zoom * factor, 0.5), 12), half = canvas.clientWidth / 2;
  const at = [x / half - 1, 1 - y / half];
  view.shift = view.shift.map((old, k) => at[k] - (at[k] - old) * (zoom / view.zoom));
  view.zoom = zoom;
  draw();
}

function resetView(yaw = 0, pitch = 0) {
  view = { yaw, pitch, zoom: 1, shift: [0, 0] };
  draw();
}

const fingers = new Map();
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
});
canvas.addEventListener("pointermove", (event) => {
  if (!fingers.has(event.pointerId)) return;
  const before = [...fingers.values()];
  fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
  const after = [...fingers.values()], half = canvas.clientWidth / 2;
  if (after.length === 1) return turn((after[0][0] - before[0][0]) / half * 2, (after[0][1] - before[0][1]) / half * 2);
  const apart = ([[ax, ay], [bx, by]]) => Math.hypot(ax - bx, ay - by) || 1;
  const middle = ([[ax, ay], [bx, by]]) => [(ax + bx) / 2, (ay + by) / 2];
  const [from, to] = [middle(before), middle(after)];
  view.shift = [view.shift[0] + (to[0] - from[0]) / half, view.shift[1] - (to[1] - from[1]) / half];
  zoomAt(apart(after) / apart(before), ...to);
});
for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (e) => fingers.delete(e.pointerId));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const notches = Math.min(Math.max(event.deltaY / 100, -1), 1);
  zoomAt(1.2 ** -notches, event.offsetX, event.offsetY);
}, { passive: false });
canvas.addEventListener("dblclick", () => resetView());
canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
canvas.addEventListener("webglcontextrestored", () => { paint = null; draw(); });
byId("reset").addEventListener("click", () => resetView());
byId("with-picture").addEventListener("change", draw);
new ResizeObserver(draw).observe(canvas);

