// What happens now: asks all programs for their traffic every two seconds, while somebody looks at the page.

import { ask, askAll, missing } from "./api.js";
import { Rates } from "./rates.js";

const PAUSE_MS = 2000;
const FIRST_PAUSE_MS = 1000;
/** From so many programs on, they are asked less often. */
const MANY = 8;
const POINTS = 90;

export class Live {
  programs = [];
  edges = [];
  waypoints = new Set();
  failures = [];
  isPaused = false;
  #rates = new Rates();
  #history = new Map();
  #timer = null;
  #onNews;
  #rounds = 0;
  #known;
  /** Resolves when the programs are known. */
  isKnown = new Promise((resolve) => (this.#known = resolve));
  /** Called when the page is paused or goes on. */
  onPause = null;

  /** `onNews` is called after each round; `trouble` is then a sentence, or empty. */
  constructor(onNews) {
    this.#onNews = onNews;
    document.addEventListener("visibilitychange", () => this.#plan(0));
  }

  start() {
    this.#plan(0);
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    this.onPause?.();
    this.#plan(0);
  }

  /** Notes a number under a name, for its line over time, and returns all of them. */
  note(name, number) {
    if (!this.#history.has(name)) this.#history.set(name, []);
    const points = this.#history.get(name);
    if (points.at(-1)?.round !== this.#rounds) points.push({ round: this.#rounds, number });
    if (points.length > POINTS) points.shift();
    return points.map((it) => it.number);
  }

  #plan(milliseconds) {
    clearTimeout(this.#timer);
    if (!document.hidden && !this.isPaused) this.#timer = setTimeout(() => this.#round(), milliseconds);
  }

  async #round() {
    let trouble = "";
    try {
      this.programs = await ask("/programs");
      this.#known();
      this.waypoints = new Set(this.programs.filter((it) => it.kind === "waypoint").map((it) => it.workload));
      const answers = await askAll(this.programs, "traffic");
      for (const { program, answer } of answers) if (answer) this.#rates.add(program, answer);
      this.failures = answers.filter((it) => it.error);
      trouble = missing(answers);
      this.edges = this.#rates.edges();
    } catch (error) {
      trouble = error.message;
    }
    this.#rounds += 1;
    this.#onNews(trouble);
    const many = Math.max(1, this.programs.length / MANY);
    this.#plan((this.#rounds < 3 ? FIRST_PAUSE_MS : PAUSE_MS) * many);
  }
}
