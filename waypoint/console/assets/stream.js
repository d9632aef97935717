// Streams of lines of JSON, as /tap and /top send them. A stream ends when its view is left or the page is hidden.

const AGAIN_MS = 2000;

/** Reads `path` of a program until `signal` is aborted; opens it again when it breaks. `onTrouble` gets a sentence or "". */
export async function follow(program, path, signal, onLine, onTrouble) {
  while (!signal.aborted) {
    try {
      const answer = await fetch(program.pages + path, { signal });
      if (!answer.ok) throw new Error((await answer.text()).trim());
      onTrouble("");
      await read(answer.body, onLine);
    } catch (error) {
      if (signal.aborted) return;
      onTrouble(`${program.name}: ${error.message}`);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

async function read(body, onLine) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) onLine(JSON.parse(line));
  }
}

/** Calls `open(signal)` while the page is seen and not paused. Returns a function that ends it. */
export function whileSeen(live, open) {
  let controller = null;
  const renew = () => {
    const wanted = !document.hidden && !live.isPaused;
    if (wanted && !controller) open((controller = new AbortController()).signal);
    if (!wanted) controller = controller?.abort();
  };
  document.addEventListener("visibilitychange", renew);
  live.onPause = renew;
  renew();
  return () => {
    document.removeEventListener("visibilitychange", renew);
    live.onPause = null;
    controller?.abort();
  };
}
