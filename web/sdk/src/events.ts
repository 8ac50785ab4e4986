/** A map from the names of events to what their listeners are given. */
export type EventMap = Record<string, unknown>;

/** @internal Calls a listener so that what it throws is reported, and keeps nothing else from happening. */
export function apart(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** Tells listeners of events. A listener that throws does not keep the others from being told. */
export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<(detail: never) => void>>();
  readonly #iterators = new Set<() => void>();

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
      apart(() => (listener as (detail: Events[Name]) => void)(detail));
    }
  }

  /**
   * Iterates over events from this call on, until the signal aborts or the source of the events is closed. What comes while
   * the loop is busy is kept. before is what it begins with.
   */
  iterate<Name extends keyof Events>(
    name: Name, options: { signal?: AbortSignal } = {}, before: Events[Name][] = [],
  ): AsyncIterableIterator<Events[Name]> {
    const { signal } = options;
    const queue = [...before];
    const waiting: (() => void)[] = [];
    const wake = () => {
      for (const go of waiting.splice(0)) go();
    };
    let ended = false;
    const off = this.on(name, (detail) => {
      queue.push(detail);
      wake();
    });
    const end = () => {
      ended = true;
      off();
      this.#iterators.delete(end);
      signal?.removeEventListener("abort", end);
      wake();
    };
    this.#iterators.add(end);
    if (signal?.aborted) end();
    else signal?.addEventListener("abort", end);
    return {
      async next() {
        while (!ended && queue.length === 0) await new Promise<void>((resolve) => waiting.push(resolve));
        return ended ? { done: true, value: undefined } : { done: false, value: queue.shift() as Events[Name] };
      },
      async return() {
        end();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /** @internal Ends every iteration and forgets every listener. */
  retire(): void {
    for (const end of [...this.#iterators]) end();
    this.#listeners.clear();
  }
}
