/** Where a login is kept: `local` survives the browser, `session` the tab, `memory` nothing. */
export type StorageMode = "local" | "session" | "memory";

/** The part of the Web Storage API that is needed. */
export interface Store {
  /** Returns what is kept under a key, or null. */
  getItem(key: string): string | null;
  /** Keeps a text under a key. */
  setItem(key: string, value: string): void;
  /** Drops what is kept under a key. */
  removeItem(key: string): void;
}

class MemoryStore implements Store {
  readonly #items = new Map<string, string>();
  getItem(key: string): string | null {
    return this.#items.get(key) ?? null;
  }
  setItem(key: string, value: string): void {
    this.#items.set(key, value);
  }
  removeItem(key: string): void {
    this.#items.delete(key);
  }
}

/** @internal The store of a mode; memory where the platform has no other or refuses it. */
export function storeOf(mode: StorageMode | Store): Store {
  if (typeof mode === "object") return mode;
  try {
    if (mode === "local") return globalThis.localStorage ?? new MemoryStore();
    if (mode === "session") return globalThis.sessionStorage ?? new MemoryStore();
  } catch {
    // a browser that keeps nothing, for a page that may store nothing
  }
  return new MemoryStore();
}
