// Speaks to the agent with the TypeScript SDK, in the era that is given, and prints what it saw.
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const [era, command, ...args] = process.argv.slice(2);
const seen = { progress: [], forms: [] };
const client = new Client(
  { name: "typescript", version: "1.0.0" },
  {
    capabilities: { elicitation: { form: {} } },
    ...(era === "stateless" ? { versionNegotiation: { mode: "auto" } } : {}),
  },
);
client.setRequestHandler("elicitation/create", async (request) => {
  seen.forms.push(request.params.message);
  return { action: "accept", content: { decision: "approve" } };
});
const transport = new StdioClientTransport({ command, args, env: process.env, stderr: "inherit" });
await client.connect(transport);
seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
const onprogress = (progress) => seen.progress.push(progress.message);
seen.run = await client.callTool(
  { name: "fp_run_workflow", arguments: { workflow: "release" } },
  { onprogress, timeout: 60_000 },
);
seen.bad = await client.callTool({ name: "fp_run_workflow", arguments: { workflow: 3 } });
seen.prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
seen.resources = (await client.listResources()).resources.map((resource) => resource.uri);
const read = await client.readResource({ uri: "workflow://release" });
seen.workflow = JSON.parse(read.contents[0].text);
console.log(JSON.stringify(seen));
await client.close();
