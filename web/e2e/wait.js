// Waiting for a condition that no event announces.

const pause = 20;

// until polls a check until it returns something truthy, and returns that. It gives up after a bound that no healthy
// run comes near.
export async function until(what, check, bound = 20_000) {
  const deadline = Date.now() + bound;
  for (;;) {
    const result = await check();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`waited ${bound} ms in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
