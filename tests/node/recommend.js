// Asks a Tidings server for recommendations and prints the answer, or the error, as one line of JSON.
//
//     node recommend.js PROTO_DIR ADDRESS USER_ID [K]
"use strict";

const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const [protoDir, address, userId, k] = process.argv.slice(2);
if (userId === undefined) {
  console.error("usage: node recommend.js PROTO_DIR ADDRESS USER_ID [K]");
  process.exit(2);
}

const definition = protoLoader.loadSync("tidings/v1/recommendation_service.proto", {
  includeDirs: [protoDir],
  keepCase: true,
  longs: Number,
  enums: String,
  arrays: true,
});
const { RecommendationService } = grpc.loadPackageDefinition(definition).tidings.v1;

const client = new RecommendationService(address, grpc.credentials.createInsecure());
const request = { user_id: userId };
if (k !== undefined) {
  request.k = Number(k);
}
client.Recommend(request, { deadline: Date.now() + 20_000 }, (error, answer) => {
  if (error) {
    console.log(JSON.stringify({ code: grpc.status[error.code], message: error.details }));
    process.exitCode = 1;
  } else {
    console.log(JSON.stringify(answer));
  }
  client.close();
});
