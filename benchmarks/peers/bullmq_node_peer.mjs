// BullMQ for Node. concurrency and removeOnComplete as its documentation has them (docs.bullmq.io, "Concurrency" and
// "Auto-removal of jobs"), addBulk for many ("Adding jobs in bulk"). The roles are those of the other adapters: see __init__.py.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(process.env.BENCH_NODE + '/');
const { Queue, Worker } = require('bullmq');
const url = new URL(process.env.BENCH_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const concurrency = Number(process.env.BENCH_CONCURRENCY);
const epoch = Number(process.env.BENCH_EPOCH);
const start = Number(process.env.BENCH_FIRST ?? 0);
const nowUs = () => Math.round((performance.timeOrigin + performance.now()) * 1000);
const [role, mode, count, first, step] = process.argv.slice(2);

function job(n) {
  const opts = { removeOnComplete: true };
  if (mode === 'at') opts.delay = Math.max(0, Number(first) + Math.floor(n * Number(step)) - Date.now());
  return { name: 'noop', data: { n: start + n }, opts };
}

if (role === 'work') {
  const ledger = fs.openSync(process.env.BENCH_LEDGER, 'a');
  new Worker('bench', async ({ data }) => {
    fs.writeSync(ledger, `${String(data.n).padStart(10, '0')} ${String(nowUs() - epoch).padStart(12, '0')}\n`);
  }, { connection, concurrency });
} else {
  const queue = new Queue('bench', { connection });
  await queue.waitUntilReady();
  if (mode === 'single') await queue.add('noop', job(0).data, job(0).opts);
  const started = performance.now();
  if (mode === 'single') {
    for (let n = 1; n < Number(count); n++) {
      const { name, data, opts } = job(n);
      await queue.add(name, data, opts);
    }
  } else {
    for (let from = 0; from < Number(count); from += 1000) {
      const length = Math.min(1000, Number(count) - from);
      await queue.addBulk(Array.from({ length }, (_, index) => job(from + index)));
    }
  }
  console.log(JSON.stringify({ seconds: (performance.now() - started) / 1000 }));
  await queue.close();
}
