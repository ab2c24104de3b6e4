// BullMQ for Node. concurrency and removeOnComplete as its documentation has them ("Workers: Concurrency", "Auto-removal
// of jobs"), addBulk for many. The roles are those of the other adapters (see __init__.py).
import { createRequire } from 'node:module';
import fs from 'node:fs';

const require = createRequire(process.env.BENCH_NODE_MODULES + '/');
const { Queue, Worker } = require('bullmq');
const url = new URL(process.env.BENCH_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const concurrency = Number(process.env.BENCH_CONCURRENCY ?? 100);
const epoch = BigInt(process.env.BENCH_EPOCH ?? 0);
const nowUs = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000));
const [role, mode, count, first, step] = process.argv.slice(2);

function options(n) {
  const given = { removeOnComplete: true };
  if (mode === 'at') given.delay = Math.max(0, (Number(first) + n * Number(step)) / 1000 - Date.now());
  return given;
}

if (role === 'work') {
  const ledger = fs.openSync(process.env.BENCH_LEDGER, 'a');
  new Worker('bench', async (job) => {
    fs.writeSync(ledger, `${String(job.data.n).padStart(10, '0')} ${String(nowUs() - epoch).padStart(12, '0')}\n`);
  }, { connection, concurrency });
} else {
  const queue = new Queue('bench', { connection });
  await queue.waitUntilReady();
  const started = performance.now();
  if (mode === 'single') {
    for (let n = 0; n < Number(count); n++) await queue.add('noop', { n }, options(n));
  } else {
    for (let from = 0; from < Number(count); from += 1000) {
      const jobs = [];
      for (let n = from; n < Math.min(from + 1000, Number(count)); n++) {
        jobs.push({ name: 'noop', data: { n }, opts: options(n) });
      }
      await queue.addBulk(jobs);
    }
  }
  console.log(JSON.stringify({ seconds: (performance.now() - started) / 1000 }));
  await queue.close();
}
