// What a program with imapflow does: log in, append, idle, fetch, search, flag, move, log out. Prints JSON.
"use strict";
const { ImapFlow } = require("imapflow");

const MESSAGE = "From: Anna <anna@example.com>\r\nTo: bob@example.com\r\nSubject: Hello\r\n\r\nHello Bob\r\n";

function connect(port, extra) {
  const auth = { user: "user", pass: "pass" };
  return new ImapFlow({ host: "127.0.0.1", port, secure: false, doSTARTTLS: false, auth, logger: false, ...extra });
}

async function main(port) {
  const told = { exists: [], flags: [], expunged: [] };
  const client = connect(port, { qresync: true });
  client.on("exists", (data) => told.exists.push(data.count));
  client.on("flags", (data) => told.flags.push([data.seq, [...data.flags].sort()]));
  client.on("expunge", (data) => told.expunged.push(data.uid || data.seq));
  await client.connect();
  const folders = (await client.list()).map((folder) => [folder.path, folder.specialUse || ""]);
  await client.mailboxCreate("Ordner/für Bob");
  const lock = await client.getMailboxLock("INBOX");
  const other = connect(port);
  await other.connect();
  const idle = client.idle();
  await other.append("INBOX", MESSAGE, ["\\Flagged"]);
  for (let i = 0; i < 100 && !told.exists.length; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  const message = await client.fetchOne("1", { uid: true, flags: true, envelope: true, bodyStructure: true, source: true });
  const found = await client.search({ subject: "hello", flagged: true }, { uid: true });
  await other.mailboxOpen("INBOX");
  await other.messageFlagsAdd("1", ["\\Seen", "Work"]);
  await client.noop();
  const moved = await client.messageMove("1", "Ordner/für Bob");
  await other.noop();
  const status = await client.status("Ordner/für Bob", { messages: true, unseen: true, uidNext: true });
  lock.release();
  await Promise.allSettled([idle]);
  await other.logout();
  await client.logout();
  const source = message.source.toString();
  console.log(JSON.stringify({ folders, told, source, subject: message.envelope.subject, found, status, moved: [...moved.uidMap] }));
}

main(Number(process.argv[2])).catch((error) => {
  console.error(error);
  process.exit(1);
});
