// Stands in for React Native's AsyncStorage: the same promises, kept by the browser.
const keys = () => Object.keys(localStorage);

const AsyncStorage = {
  getAllKeys: async () => keys(),
  getItem: async (key) => localStorage.getItem(key),
  setItem: async (key, value) => localStorage.setItem(key, value),
  removeItem: async (key) => localStorage.removeItem(key),
  multiGet: async (keys) => keys.map((key) => [key, localStorage.getItem(key)]),
  multiSet: async (pairs) => pairs.forEach(([key, value]) => localStorage.setItem(key, value)),
  multiRemove: async (keys) => keys.forEach((key) => localStorage.removeItem(key)),
  clear: async () => localStorage.clear(),
};

export default AsyncStorage;
