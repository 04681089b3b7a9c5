// Hosts an agent with vscode-jsonrpc, whose framing is Content-Length headers.
//
//   node foreign_host.mjs SCENARIO PROGRAM ARGUMENT …
//
// Prints one JSON object: what the agent said and answered. The test judges it.

import { spawn } from "node:child_process";
import {
  CancellationToken,
  CancellationTokenSource,
  StreamMessageReader,
  StreamMessageWriter,
  createMessageConnection,
} from "vscode-jsonrpc/node.js";

const [scenario, program, ...programArguments] = process.argv.slice(2);
const TOKEN = "a-token-of-node";

const environment = { ...process.env };
delete environment.FLEETPROMPT_SESSION_TOKEN;
if (scenario !== "without-token") environment.FLEETPROMPT_SESSION_TOKEN = TOKEN;

const agent = spawn(program, programArguments, {
  env: environment,
  stdio: ["pipe", "pipe", "inherit"],
});
const exited = new Promise((resolve) => agent.on("exit", (code) => resolve(code)));
const connection = createMessageConnection(
  new StreamMessageReader(agent.stdout),
  new StreamMessageWriter(agent.stdin),
);

const seen = { hello: null, registered: null, chunks: [], errors: [] };
let onChunk = () => {};

const greeted = new Promise((resolve) => {
  connection.onRequest("agent.hello", (hello) => {
    seen.hello = hello;
    return {
      accepted_version: "1",
      session_id: "session-of-node",
      heartbeat_interval_ms: 60000,
      max_frame_bytes: 4194304,
      server: { core_version: "0", instance_id: "node" },
    };
  });
  connection.onRequest("agent.tools.register", ({ tools }) => {
    seen.registered = tools.map((tool) => tool.tool_id);
    resolve();
    return { registered: seen.registered, rejected: [] };
  });
});
connection.onNotification("agent.tool.stream", (chunk) => {
  seen.chunks.push(chunk);
  onChunk(chunk);
});
connection.onUnhandledNotification(() => {});
connection.onError(([error]) => seen.errors.push(String(error)));
connection.listen();

function call(workflow, token = CancellationToken.None) {
  return connection.sendRequest(
    "core.tool.call",
    {
      call_id: "call-1",
      tool_id: "com.fleetprompt.core/fp_run_workflow",
      input: { workflow },
      meta: { request_id: "req-node", correlation_id: "line-node" },
    },
    token,
  );
}

const scenarios = {
  async run() {
    await greeted;
    seen.result = await call("greet");
  },
  async cancel() {
    await greeted;
    const source = new CancellationTokenSource();
    onChunk = (chunk) => {
      // What cancels is the library: it sends $/cancelRequest for the request.
      if (chunk.data.state === "started") source.cancel();
    };
    seen.result = await call("slow", source.token);
  },
  async "without-token"() {
    seen.listed = await connection.sendRequest("fp_list_workflows", {});
    seen.ping = await connection.sendRequest("core.ping", {});
    await greeted;
  },
  async errors() {
    await greeted;
    for (const method of ["no.such.method", "core.tool.call"]) {
      try {
        await connection.sendRequest(method, {});
      } catch (error) {
        seen.errors.push({ code: error.code, data: error.data });
      }
    }
  },
};

await scenarios[scenario]();
connection.sendNotification("core.goodbye", { reason: "done" });
seen.exit_code = await exited;
connection.dispose();
process.stdout.write(JSON.stringify(seen));
