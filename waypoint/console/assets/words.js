// Numbers as people read them.

/** 0, 0.4, 12, 1.2 k */
export function amount(number) {
  if (number === 0) return "0";
  if (number < 0.1) return "<0.1";
  if (number < 10) return String(Math.round(number * 10) / 10);
  if (number < 1000) return String(Math.round(number));
  return number < 1e6 ? `${Math.round(number / 100) / 10} k` : `${Math.round(number / 1e5) / 10} M`;
}

export const rate = (perSecond) => `${amount(perSecond)}/s`;

export const share = (part) => (part > 0 && part < 0.01 ? "<1 %" : `${Math.round(part * 100)} %`);

export function milliseconds(ms) {
  if (ms == null) return "–";
  if (ms < 10) return `${Math.round(ms * 10) / 10} ms`;
  return ms < 10000 ? `${Math.round(ms)} ms` : `${Math.round(ms / 100) / 10} s`;
}

export function bytes(count) {
  if (count < 1024) return `${Math.round(count)} B`;
  return count < 1 << 20 ? `${amount(count / 1024)} KiB` : `${amount(count / (1 << 20))} MiB`;
}

/** One line about a link or a node: what it carries. */
export function summary({ sum, is }) {
  if (sum.isHttp) return `${rate(is.perSecond)} · ${milliseconds(is.p95)}`;
  return `${bytes(is.bytesPerSecond)}/s · ${sum.open} open`;
}

/** The same for people who listen. */
export function sentence({ sum, is }) {
  const lock = sum.isMutual ? "mutual TLS" : "not encrypted";
  if (!sum.isHttp) return `${bytes(is.bytesPerSecond)} per second, ${sum.open} connections open, ${lock}`;
  const wrong = is.failed + is.refused ? `${share(is.failed)} failed, ${share(is.refused)} refused` : "no errors";
  return `${amount(is.perSecond)} requests per second, ${wrong}, 95 percent within ${milliseconds(is.p95)}, ${lock}`;
}
