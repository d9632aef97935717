// Asking the programs of the mesh. Every question has a deadline.

const SECONDS = 10;

export class CannotAsk extends Error {}

const SHARE = 0.05;
const LONGEST_PAUSE_MS = 60_000;

/**
 * When to ask again for what took from `began` to now: after `seconds`, and so late that answers to this page take at most a
 * twentieth of the time. A large mesh has thousands of routes. `answers` are of `askAll`; after a failure,
 * `seconds` are enough.
 */
export function again(began, seconds, answers) {
  const now = performance.now();
  const rest = answers.some((it) => it.error) ? 0 : Math.min((now - began) / SHARE, LONGEST_PAUSE_MS);
  return Math.max(began + seconds * 1000, began + rest);
}

/** Says in a sentence what is missing in the answers of `askAll`, or "". */
export const missing = (answers) =>
  answers
    .filter((it) => it.error || it.lacks)
    .map(({ program, error, lacks }) => `${program.name}: ${error?.message ?? lacks}`)
    .join("; ");

/** Asks for a page, as JSON. Raises CannotAsk with a sentence for people. `onLacks` gets one if the answer is not whole. */
export async function ask(path, parameters = [], onLacks = () => {}) {
  const query = new URLSearchParams(parameters).toString();
  let answer;
  try {
    answer = await fetch(query ? `${path}?${query}` : path, { signal: AbortSignal.timeout(SECONDS * 1000) });
  } catch (error) {
    throw new CannotAsk(error.name === "TimeoutError" ? `no answer within ${SECONDS} s` : "the server of this page does not answer; it may have stopped");
  }
  if (!answer.ok) throw new CannotAsk((await answer.text()).trim() || `status ${answer.status}`);
  const lacks = answer.headers.get("Pywaypoint-Lacks");
  if (lacks) onLacks(lacks);
  return answer.json();
}

/**
 * Asks several programs at once. Returns [{program, answer, lacks}] of those that answered, and [{program, error}] of the
 * rest. `lacks` says what is missing in an answer that is not whole.
 */
export async function askAll(programs, page) {
  return Promise.all(
    programs.map(async (program) => {
      try {
        let lacks = "";
        const answer = await ask(program.pages + page, [], (sentence) => (lacks = sentence));
        return { program, answer, lacks };
      } catch (error) {
        return { program, error };
      }
    }),
  );
}
