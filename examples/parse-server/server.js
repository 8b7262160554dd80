// Parse Server with everything from the environment. The keys of the app come from secrets where they are set; else
// they are derived from the object storage's secret, so that all instances agree and nothing is written down.
const crypto = require('node:crypto');
const http = require('node:http');
const express = require('express');
const { ParseServer } = require('parse-server');
const S3Adapter = require('@parse/s3-files-adapter');

const { env } = process;
const derive = (name) =>
  env[name] || crypto.createHmac('sha256', env.AWS_SECRET_ACCESS_KEY || 'development').update(name).digest('hex').slice(0, 32);
const port = Number(env.PORT || 0);
const host = env.HOST || '127.0.0.1';

async function main() {
  const parse = new ParseServer({
    appId: env.PARSE_APP_ID || 'example',
    masterKey: derive('PARSE_MASTER_KEY'),
    maintenanceKey: derive('PARSE_MAINTENANCE_KEY'),
    masterKeyIps: ['0.0.0.0/0', '::/0'],
    databaseURI: env.DATABASE_URL,
    serverURL: `http://${host}:${port}/parse`,
    publicServerURL: env.PUBLIC_URL || `http://${host}:${port}/parse`,
    filesAdapter: new S3Adapter({
      bucket: env.S3_BUCKET,
      region: env.AWS_REGION,
      directAccess: false,
      s3overrides: {
        endpoint: env.AWS_ENDPOINT_URL_S3,
        forcePathStyle: true,
        credentials: { accessKeyId: env.AWS_ACCESS_KEY_ID, secretAccessKey: env.AWS_SECRET_ACCESS_KEY },
      },
    }),
    fileUpload: { enableForPublic: true },
    liveQuery: { classNames: ['Message'], redisURL: env.REDIS_URL },
    allowClientClassCreation: true,
    logsFolder: null,
    silent: false,
  });
  await parse.start();
  if (process.argv[2] === 'migrate') {
    // the tables are made at start: once, before the instances, which would race for it
    console.log('tables are there');
    process.exit(0);
  }
  const app = express();
  app.use('/parse', parse.app);
  const server = http.createServer(app);
  const live = await ParseServer.createLiveQueryServer(server, { redisURL: env.REDIS_URL });
  server.listen(port, host, () => console.log(`listening on ${host}:${port}`));
  process.once('SIGTERM', () => {
    server.close(() => process.exit(0));
    // live queries never end by themselves: their clients connect again, to another server
    live.parseWebSocketServer?.server?.clients?.forEach((socket) => socket.close(1012));
    server.closeIdleConnections();
    setTimeout(() => process.exit(0), 8000).unref();
  });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
