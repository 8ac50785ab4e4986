/** A map from the names of events to what their listeners are given. */
export type EventMap = Record<string, unknown>;

/** Tells listeners of events. A listener that throws does not keep the others from being told. */
export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<(detail: never) => void>>();

  /** Adds a listener, and returns a function that removes it. */
  on<Name extends keyof Events>(name: Name, listener: (detail: Events[Name]) => void): () => void {
    let listeners = this.#listeners.get(name);
    if (!listeners) this.#listeners.set(name, (listeners = new Set()));
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /** @internal */
  emit<Name extends keyof Events>(name: Name, detail: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as (detail: Events[Name]) => void)(detail);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  /** Iterates over events from now on, until the signal aborts. What comes while the loop is busy is kept. */
  async *iterate<Name extends keyof Events>(name: Name, options: { signal?: AbortSignal } = {}): AsyncGenerator<Events[Name], void, undefined> {
    const { signal } = options;
    const queue: Events[Name][] = [];
    let wake = () => {};
    const off = this.on(name, (detail) => {
      queue.push(detail);
      wake();
    });
    const aborted = () => wake();
    signal?.addEventListener("abort", aborted);
    try {
      while (!signal?.aborted) {
        if (queue.length > 0) yield queue.shift() as Events[Name];
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      off();
      signal?.removeEventListener("abort", aborted);
    }
  }
}
