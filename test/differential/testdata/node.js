// Node's HTTP server: writes down each request that it read whole, and answers
// with the same line.
const http = require('http');
const crypto = require('crypto');

const hex = (text) => Buffer.from(text, 'latin1').toString('hex');

const server = http.createServer({ requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 600000 }, (req, res) => {
  const sum = crypto.createHash('sha256');
  let length = 0;
  req.on('data', (part) => { sum.update(part); length += part.length; });
  req.on('end', () => {
    const line = JSON.stringify({
      method: req.method, target: hex(req.url), length, sha256: sum.digest('hex'), port: req.socket.remotePort,
    });
    process.stdout.write(line + '\n');
    res.writeHead(200, { 'X-Read-By': 'node', 'Content-Type': 'application/json', 'Content-Length': line.length });
    res.end(line);
  });
});
server.listen(Number(process.argv[2]), '127.0.0.1');
