// An explanation of a waypoint (`/explain`) as a trail: who was meant, which policies spoke, which rule won, what happens.

import { el } from "./dom.js";
import { share } from "./words.js";

/** Makes the trail of one explanation. */
export function told(it, program) {
  return el(
    "article",
    { class: "trail" },
    el("h2", {}, it.summary),
    el("p", { class: "hint" }, `${program.name} decides so with configuration ${it.version}; the client is ${it.client}.`),
    el(
      "ol",
      {},
      step("Destination", `${it.found.authority} is ${it.found.service || "no service that is known here"}`, it.found.why, [...it.found.tokens, ...it.found.problems]),
      it.policies.length > 0 && step("Policies", "", "", it.policies.map((policy) => `${policy.is_deciding ? "✓ decides" : policy.is_matching ? "✓ matches" : "· does not match"}: ${policy.policy} (${policy.action}${policy.is_dry_run ? ", on trial" : ""}) ${policy.words}`)),
      it.candidates && step("Routes", `${it.candidates.matches.length} candidates, of ${it.candidates.whose}`, it.candidates.why, it.candidates.matches.map((match) => `${{ won: "✓", weaker: "·", lost: "✗" }[match.verdict]} ${match.rule}: ${match.match} ${match.reasons.join("; ")}`)),
      it.rule && step("Rule", it.rule.rule, it.rule.does.join("; "), it.rule.problems),
      it.outcomes.map(outcome),
    ),
    it.assumptions.length > 0 && el("p", { class: "hint" }, `This assumes: ${it.assumptions.join("; ")}`),
  );
}

const step = (name, text, why, lines = []) =>
  el("li", {}, el("strong", {}, name), " ", text, why && el("span", { class: "hint" }, ` ${why}`), lines.length > 0 && el("ul", {}, lines.map((it) => el("li", {}, it))));

function outcome(it) {
  const title = it.share < 1 ? `In ${share(it.share)} of cases` : "Outcome";
  if (it.answer) {
    return step(title, `the waypoint answers ${it.answer.status} ${it.answer.flag}`, it.answer.why, it.answer.headers.map(([name, value]) => `${name}: ${value}`));
  }
  const endpoints = it.endpoints.map((end) => `${end.is_healthy ? "●" : "○"} ${end.address} ${end.workload} over ${end.over}${end.identity ? `, expects ${end.identity}` : ""}`);
  const sees = it.sees ? [`the endpoint sees ${it.sees.method} ${it.sees.target} of ${it.sees.authority}`] : [];
  return step(title, `the request goes to ${it.cluster || it.backend}`, it.does.join("; "), [...sees, ...endpoints]);
}
