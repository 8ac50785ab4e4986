// Programs that the tests start: each is ended by its process id, also when the tests crash.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = fileURLToPath(new URL("../../", import.meta.url));

const running = new Set();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

// Program is a running child process with what it has printed so far.
export class Program {
  stdout = "";
  stderr = "";

  constructor(path, args, options = {}) {
    this.path = path;
    this.child = spawn(path, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
    this.child.stdout.on("data", (text) => (this.stdout += text));
    this.child.stderr.on("data", (text) => (this.stderr += text));
    running.add(this.child);
    this.ended = new Promise((resolve) => {
      this.child.once("error", (error) => {
        this.stderr += `${error}\n`;
        resolve();
      });
      this.child.once("close", resolve);
    }).then(() => {
      running.delete(this.child);
      this.hasEnded = true;
    });
  }

  // mustRun throws when the program has ended by itself.
  mustRun() {
    if (this.hasEnded) throw new Error(`${this.path} ended with code ${this.child.exitCode}:\n${this.stdout}${this.stderr}`);
  }

  // stop asks the program to end, and ends it when it does not.
  async stop(bound = 10_000) {
    if (this.hasEnded) return;
    this.child.kill("SIGTERM");
    const force = setTimeout(() => this.child.kill("SIGKILL"), bound);
    await this.ended;
    clearTimeout(force);
    if (this.child.signalCode === "SIGKILL") throw new Error(`${this.path} did not stop within ${bound} ms:\n${this.stderr}`);
  }
}

// run runs a program to its end and throws when it fails.
export async function run(path, args, options) {
  const program = new Program(path, args, options);
  await program.ended;
  if (program.child.exitCode !== 0) program.mustRun();
}

// buildGo builds one of the Go programs of the repository into a folder and returns its path.
export async function buildGo(path, folder) {
  const binary = join(folder, basename(path));
  await run("go", ["build", "-o", binary, `./${path}`], { cwd: repository });
  return binary;
}

// listen starts a node server on a free port of this machine and returns its address.
export async function listen(server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `127.0.0.1:${server.address().port}`;
}
