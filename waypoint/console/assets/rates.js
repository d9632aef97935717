// From counters to rates: what the counters of /traffic gained within a window of seconds.

const WINDOW_SECONDS = 15;

/** Kiali's thresholds: any 5xx is a warning, from a tenth on a failure; of 4xx a tenth warns, a fifth fails. */
const FAILURE = 0.1;
const CLIENT_WARNING = 0.1;
const CLIENT_FAILURE = 0.2;

/** The answers of one program within the window. A program that started again starts anew. */
class History {
  #answers = [];

  add(answer) {
    const last = this.#answers.at(-1);
    if (last && (answer.seconds <= last.seconds || fewer(answer, last))) this.#answers = [];
    const edges = new Map(answer.edges.map((edge) => [keyOf(edge), edge]));
    this.#answers.push({ seconds: answer.seconds, buckets: answer.buckets, edges });
    while (this.#answers.length > 2 && this.#answers[1].seconds <= answer.seconds - WINDOW_SECONDS) this.#answers.shift();
  }

  *gains() {
    const [first, last] = [this.#answers[0], this.#answers.at(-1)];
    const seconds = last ? last.seconds - first.seconds : 0;
    for (const [key, edge] of last?.edges ?? []) {
      yield gain(edge, seconds > 0 ? first.edges.get(key) : edge, seconds, last.buckets);
    }
  }
}

export class Rates {
  #programs = new Map();

  add(program, answer) {
    if (!this.#programs.has(program.name)) this.#programs.set(program.name, new History());
    this.#programs.get(program.name).add(answer);
  }

  /** The edges of all programs, each with what it gained. */
  edges() {
    return [...this.#programs.values()].flatMap((history) => [...history.gains()]);
  }
}

/** Adds gains up: of the answers of a service, or of all that a workload sends. */
export function sum(gains) {
  const found = { seconds: 0, results: {}, durations: [], buckets: [], opened: 0, closed: 0, received: 0, sent: 0, open: 0, total: 0, isHttp: false, isMutual: gains.length > 0 };
  for (const it of gains) {
    found.seconds = Math.max(found.seconds, it.seconds);
    for (const [result, count] of Object.entries(it.results)) found.results[result] = (found.results[result] ?? 0) + count;
    it.durations.forEach((count, n) => (found.durations[n] = (found.durations[n] ?? 0) + count));
    if (it.buckets.length) found.buckets = it.buckets;
    for (const name of ["opened", "closed", "received", "sent", "open", "total"]) found[name] += it[name];
    found.isHttp ||= it.isHttp;
    found.isMutual &&= it.isMutual;
  }
  return found;
}

/** What people want to know of gains. */
export function measure(gains) {
  const requests = Object.values(gains.results).reduce((a, b) => a + b, 0);
  const of = (isIt) => Object.entries(gains.results).reduce((n, [result, count]) => n + (isIt(...result.split(" ")) ? count : 0), 0);
  const failed = of((code, grpc) => code === "0" || code.startsWith("5") || (grpc !== "-" && grpc !== "0"));
  const refused = of((code) => code.startsWith("4"));
  const per = (count) => (gains.seconds > 0 ? count / gains.seconds : 0);
  return {
    requests,
    perSecond: per(requests),
    bytesPerSecond: per(gains.received + gains.sent),
    failed: requests ? failed / requests : 0,
    refused: requests ? refused / requests : 0,
    p50: quantile(gains, 0.5),
    p95: quantile(gains, 0.95),
    p99: quantile(gains, 0.99),
    health: health(requests, failed, refused),
  };
}

function health(requests, failed, refused) {
  if (!requests) return "idle";
  if (failed / requests >= FAILURE || refused / requests >= CLIENT_FAILURE) return "failure";
  if (failed || refused / requests >= CLIENT_WARNING) return "warning";
  return "healthy";
}

/** A quantile of durations in ms, within its bucket by proportion, as Prometheus computes it. Null without requests. */
export function quantile({ durations, buckets }, share) {
  const all = durations.reduce((a, b) => a + b, 0);
  if (!all) return null;
  let before = 0;
  for (const [n, count] of durations.entries()) {
    if (count && before + count >= share * all) {
      const low = n ? buckets[n - 1] : 0;
      return n < buckets.length ? low + ((share * all - before) / count) * (buckets[n] - low) : low;
    }
    before += count;
  }
  return buckets.at(-1);
}

function gain(edge, before, seconds, buckets) {
  const less = (now, then) => now - (then ?? 0);
  return {
    ...edge,
    seconds,
    buckets,
    isHttp: edge.durations.length > 0,
    isMutual: edge.security === "mutual_tls",
    open: edge.opened - edge.closed,
    total: Object.values(edge.results).reduce((a, b) => a + b, 0) || edge.opened,
    results: Object.fromEntries(Object.entries(edge.results).map(([result, count]) => [result, less(count, before?.results[result])])),
    durations: edge.durations.map((count, n) => less(count, before?.durations[n])),
    opened: less(edge.opened, before?.opened),
    closed: less(edge.closed, before?.closed),
    received: less(edge.received, before?.received),
    sent: less(edge.sent, before?.sent),
  };
}

const keyOf = (edge) =>
  JSON.stringify([edge.reporter, edge.source, edge.service, edge.destination, edge.protocol, edge.security]);

function fewer(answer, last) {
  return answer.edges.some((edge) => {
    const known = last.edges.get(keyOf(edge));
    return known && (edge.opened < known.opened || Object.entries(known.results).some(([it, n]) => (edge.results[it] ?? 0) < n));
  });
}
