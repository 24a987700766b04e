// jsforce as a client of an org that is not Salesforce's.
// In (stdin): {"url", "token", "version", "calls": [{"call", "arguments"}]}. Out: for each {"ok"} or {"error", "told"}.
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const jsforce = require("jsforce");
let text = "";
for await (const chunk of process.stdin) text += chunk;
const work = JSON.parse(text);
const conn = new jsforce.Connection({ instanceUrl: work.url, accessToken: work.token, version: work.version });

const CALLS = {
  describe: (type) => conn.sobject(type).describe(),
  describeGlobal: () => conn.describeGlobal(),
  create: (type, records, options) => conn.sobject(type).create(records, options),
  update: (type, records, options) => conn.sobject(type).update(records, options),
  upsert: (type, record, key, options) => conn.sobject(type).upsert(record, key, options),
  destroy: (type, ids, options) => conn.sobject(type).destroy(ids, options),
  retrieve: (type, id) => conn.sobject(type).retrieve(id),
  find: (type, conditions, fields) => conn.sobject(type).find(conditions, fields).sort("Id").execute(),
  query: (soql, options) => conn.query(soql, { autoFetch: true, maxFetch: 10000, ...options }),
  limitInfo: async () => { await conn.query("SELECT Id FROM User"); return conn.limitInfo; },
  bulk: async (object, operation, input, externalIdFieldName) => {
    conn.bulk2.pollInterval = 10;
    return conn.bulk2.loadAndWaitForResults({ object, operation, input, externalIdFieldName, lineEnding: "LF" });
  },
  bulkQuery: async (soql) => {
    conn.bulk2.pollInterval = 10;
    return (await conn.bulk2.query(soql)).toArray();
  },
  // its own merge() names the element mergeRequests, which Salesforce's WSDL does not; its answer model is the judge
  merge: (request) => conn.soap._invoke("merge", { request }, [
    { id: "?string", success: "boolean", mergedRecordIds: ["string"], updatedRelatedIds: ["string"], errors: ["any"] },
  ]),
  emptyRecycleBin: (ids) => conn.soap.emptyRecycleBin(ids),
  deploy: async (zip, options) => {
    conn.metadata.pollInterval = 10;
    return conn.metadata.deploy(Buffer.from(zip, "base64"), options).complete(true);
  },
};

const out = [];
for (const one of work.calls) {
  try {
    out.push({ ok: (await CALLS[one.call](...one.arguments)) ?? null });
  } catch (error) {
    out.push({ error: error.errorCode ?? error.name, told: String(error.message) });
  }
}
process.stdout.write(JSON.stringify(out));
