// Stands in for what the SDK uses of React Native. A test moves the app to the background and back with window.moveApp.
const listeners = new Set();

export const AppState = {
  currentState: "active",
  addEventListener(event, listener) {
    listeners.add(listener);
    return { remove: () => listeners.delete(listener) };
  },
};

window.moveApp = (state) => {
  AppState.currentState = state;
  for (const listener of listeners) listener(state);
};

export const Platform = {
  OS: "android",
  Version: 34,
  constants: {},
  select: (choices) => choices.android ?? choices.default,
};
export const Dimensions = {
  get: () => ({ width: innerWidth, height: innerHeight, scale: 1, fontScale: 1 }),
  addEventListener: () => ({ remove() {} }),
};
export const NativeModules = {};
