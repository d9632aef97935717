// What is wrong with the configuration, with file and line, and what each program says about its own state.

import { el } from "../dom.js";
import { listing } from "../listing.js";

const HEALTH = { Error: "failure", Warning: "warning", Info: "" };

export const problems = listing({
  id: "problems",
  key: "e",
  title: "Problems",
  caption: "Problems of the configuration",
  empty: "no problems are known",
  page: () => "problems",
  rows: (answer) => answer.map((it) => ({ ...it, health: HEALTH[it.level] })),
  columns: [
    { title: "Level", value: (it) => it.level, cell: (it) => el("span", { class: it.health }, it.level) },
    { title: "Code", value: (it) => it.code, cell: (it) => el("span", { class: "code", title: it.name }, it.code) },
    { title: "Where", value: (it) => it.place, cell: (it) => el("span", { class: "code" }, it.place) },
    { title: "Object", value: (it) => `${it.object} ${it.field}`, cell: (it) => [it.object, " ", el("span", { class: "code hint" }, it.field)] },
    { title: "What", value: (it) => it.sentence },
  ],
});

export const programs = listing({
  id: "programs",
  key: "s",
  title: "Programs",
  caption: "Programs of the mesh",
  page: () => "status",
  rows: (it) => [{ ...it, health: it.ready ? "healthy" : "failure", says: [...it.pending.map((name) => `waits for ${name}`), ...Object.values(it.concerns)].join("; ") }],
  columns: [
    { title: "Program", value: (it) => it.gateway ?? it.node ?? it.program },
    { title: "State", value: (it) => (it.ready ? "ready" : "not ready"), cell: (it) => el("span", { class: it.health }, it.ready ? "ready" : "not ready") },
    { title: "Says", value: (it) => it.says || "–" },
    { title: "Configuration", value: (it) => it.configuration ?? "–", cell: (it) => el("span", { class: "code" }, it.configuration ?? "–") },
    { title: "Connections", number: true, value: (it) => it.connections },
    { title: "Memory", number: true, value: (it) => it.memory_bytes ?? 0, cell: (it) => (it.memory_bytes ? `${Math.round(it.memory_bytes / (1 << 20))} MiB` : "–") },
    { title: "Up", number: true, value: (it) => it.uptime_seconds, cell: (it) => duration(it.uptime_seconds) },
    { title: "Version", value: (it) => it.version, cell: (it) => el("span", { class: "code" }, it.version) },
  ],
});

function duration(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}
