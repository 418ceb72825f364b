"use strict";
// Renders /api/schema/. All text is set as text, never as markup.
const METHODS = ["get", "post", "put", "patch", "delete"];
const byId = (id) => document.getElementById(id);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Follows "#/components/…" references.
function resolve(schema, value) {
  while (value && value.$ref) {
    value = value.$ref.slice(2).split("/").reduce((at, key) => at && at[key], schema);
  }
  return value || {};
}

// An example of a described value, so that a body can be edited instead of typed.
function example(schema, described, depth = 0) {
  const value = resolve(schema, described);
  if (value.example !== undefined) return value.example;
  const parts = value.allOf || value.oneOf || value.anyOf;
  if (parts && depth < 6) {
    const known = parts.filter((part) => part.type !== "null").map((part) => example(schema, part, depth + 1));
    return value.allOf ? Object.assign({}, ...known) : known[0];
  }
  const type = Array.isArray(value.type) ? value.type.find((name) => name !== "null") : value.type;
  if (value.properties && depth < 6) {
    const pairs = Object.entries(value.properties).map(([key, part]) => [key, example(schema, part, depth + 1)]);
    return Object.fromEntries(pairs);
  }
  if (type === "array") return [example(schema, value.items || {}, depth + 1)];
  if (type === "integer" || type === "number") return 0;
  if (type === "boolean") return true;
  if (type === "object") return {};
  return value.format || "string";
}

function table(heads, rows) {
  const line = (cell, texts) => element("tr", {}, ...texts.map((text) => element(cell, { textContent: text })));
  return element("table", {}, line("th", heads), ...rows.map((row) => line("td", row)));
}

function show(value) {
  return element("pre", { textContent: typeof value === "string" ? value : JSON.stringify(value, null, 2) });
}

function cookie(name) {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(name + "="));
  return found && found.slice(name.length + 1);
}

async function send(method, path, inputs, body, output) {
  let url = path;
  const query = new URLSearchParams();
  for (const [parameter, input] of inputs) {
    if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value) query.set(parameter.name, input.value);
  }
  if (query.size) url += "?" + query;
  const headers = {};
  const token = byId("token").value.trim();
  if (token) headers.Authorization = "Token " + token;
  else if (method !== "GET") {
    if (!cookie("csrftoken")) await fetch("/api/auth/csrf/");
    headers["X-CSRFToken"] = cookie("csrftoken");
  }
  let payload;
  if (body && body.files) {
    payload = new FormData();
    payload.append("file", body.files[0]);
  } else if (body) {
    payload = body.value;
    headers["Content-Type"] = "application/json";
  }
  const started = performance.now();
  try {
    const response = await fetch(url, { method, headers, body: payload });
    const status = `${response.status} ${response.statusText}`;
    output.textContent = `${status}\n\n`;
    const reader = response.body && response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part; reader && !(part = await reader.read()).done;) output.textContent += part.value;
    const text = output.textContent.slice(status.length + 2);
    const took = `${status}, ${Math.round(performance.now() - started)} ms`;
    let pretty = text;
    try { pretty = JSON.stringify(JSON.parse(text), null, 2); } catch { /* a stream or a text stays as it came */ }
    output.textContent = `${took}\n\n${pretty}`;
  } catch (error) {
    output.textContent = String(error);
  }
}

function operation(schema, path, method, described) {
  const parameters = (described.parameters || []).map((parameter) => resolve(schema, parameter));
  const content = resolve(schema, described.requestBody).content || {};
  const inside = element("div");
  if (described.description) inside.append(element("p", { textContent: described.description }));
  const inputs = parameters.map((parameter) => [parameter, element("input", { placeholder: parameter.name })]);
  if (inputs.length) {
    inside.append(element("h4", { textContent: "Parameters" }));
    for (const [parameter, input] of inputs) {
      inside.append(element("p", {}, input, ` ${parameter.name} (${parameter.in}) ${parameter.description || ""}`));
    }
  }
  let body;
  if (content["application/json"]) {
    const text = JSON.stringify(example(schema, content["application/json"].schema), null, 2);
    body = element("textarea", { value: text, rows: Math.min(text.split("\n").length, 16) });
  } else if (content["multipart/form-data"]) {
    body = element("input", { type: "file" });
  }
  if (body) inside.append(element("h4", { textContent: "Body" }), body);
  const answers = Object.entries(described.responses || {});
  inside.append(element("h4", { textContent: "Answers" }));
  inside.append(table(["status", ""], answers.map(([status, one]) => [status, resolve(schema, one).description || ""])));
  for (const [status, one] of answers) {
    const json = (resolve(schema, one).content || {})["application/json"];
    if (status.startsWith("2") && json && json.schema) inside.append(show(example(schema, json.schema)));
  }
  const output = element("pre", { hidden: true });
  const button = element("button", { textContent: "Send" });
  button.addEventListener("click", () => {
    output.hidden = false;
    output.textContent = "…";
    send(method.toUpperCase(), path, inputs, body, output);
  });
  inside.append(button, output);
  const head = element("summary", {},
    element("span", { className: `method ${method.toUpperCase()}`, textContent: method.toUpperCase() }),
    element("span", { className: "path", textContent: path }),
    described.summary || "");
  return element("details", { className: "endpoint" }, head, inside);
}

async function main() {
  const schema = await (await fetch("/api/schema/")).json();
  byId("version").textContent = schema.info.version;
  const groups = new Map();
  for (const [path, item] of Object.entries(schema.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      const tag = (item[method].tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, element("section", {}, element("h2", { textContent: tag })));
      groups.get(tag).append(operation(schema, path, method, item[method]));
    }
  }
  byId("endpoints").replaceChildren(...groups.values());
  byId("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const endpoint of document.querySelectorAll("details.endpoint")) {
      endpoint.hidden = !endpoint.querySelector("summary").textContent.toLowerCase().includes(wanted);
    }
  });
}

main().catch((error) => { byId("endpoints").textContent = `The description cannot be loaded: ${error}`; });
