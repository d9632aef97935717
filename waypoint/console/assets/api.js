// Asking the programs of the mesh. Every question has a deadline.

const SECONDS = 10;

export class CannotAsk extends Error {}

/** Asks for a page, as JSON. Raises CannotAsk with a sentence for people. */
export async function ask(path, parameters = []) {
  const query = new URLSearchParams(parameters).toString();
  let answer;
  try {
    answer = await fetch(query ? `${path}?${query}` : path, { signal: AbortSignal.timeout(SECONDS * 1000) });
  } catch (error) {
    throw new CannotAsk(error.name === "TimeoutError" ? `no answer within ${SECONDS} s` : "the server of this page does not answer; it may have stopped");
  }
  if (!answer.ok) throw new CannotAsk((await answer.text()).trim() || `status ${answer.status}`);
  return answer.json();
}

/** Asks several programs at once. Returns [{program, answer}] of those that answered, and [{program, error}] of the rest. */
export async function askAll(programs, page) {
  return Promise.all(
    programs.map(async (program) => {
      try {
        return { program, answer: await ask(program.pages + page) };
      } catch (error) {
        return { program, error };
      }
    }),
  );
}
