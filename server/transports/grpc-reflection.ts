/** The reflection protocol of gRPC (grpc.reflection.v1), over the descriptors that the contract's code carries. */
import { toBinary, type DescFile, type DescMessage, type DescService } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code, type ServiceImpl } from '@connectrpc/connect';
import type { ServerReflection, ServerReflectionRequest } from '../../proto/gen/grpc/reflection/v1/reflection_pb.js';

/** Answers questions about these services and everything that they use. */
export function createReflection(services: readonly DescService[]): ServiceImpl<typeof ServerReflection> {
  const files = new Map<string, DescFile>();
  for (const service of services) collect(service.file, files);
  const symbols = new Map<string, DescFile>();
  for (const file of files.values()) for (const name of symbolsOf(file)) symbols.set(name, file);

  const answer = (request: ServerReflectionRequest) => {
    const question = request.messageRequest;
    switch (question.case) {
      case 'listServices':
        return {
          case: 'listServicesResponse',
          value: { service: services.map(({ typeName }) => ({ name: typeName })) },
        } as const;
      case 'fileByFilename':
        return describe(files.get(question.value.replace(/\.proto$/, '')), question.value);
      case 'fileContainingSymbol':
        return describe(symbols.get(question.value), question.value);
      default:
        return notFound('extensions do not exist here');
    }
  };
  return {
    serverReflectionInfo: async function* (requests) {
      for await (const originalRequest of requests) {
        yield { validHost: originalRequest.host, originalRequest, messageResponse: answer(originalRequest) };
      }
    },
  };
}

function describe(file: DescFile | undefined, asked: string) {
  if (!file) return notFound(`${JSON.stringify(asked)} is not known`);
  const needed = new Map<string, DescFile>();
  collect(file, needed);
  const fileDescriptorProto = [...needed.values()].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  return { case: 'fileDescriptorResponse', value: { fileDescriptorProto } } as const;
}

function notFound(errorMessage: string) {
  return { case: 'errorResponse', value: { errorCode: Code.NotFound, errorMessage } } as const;
}

/** A file and everything that it imports, under their names without ending. */
function collect(file: DescFile, into: Map<string, DescFile>): void {
  if (into.has(file.name)) return;
  into.set(file.name, file);
  for (const dependency of file.dependencies) collect(dependency, into);
}

function symbolsOf(file: DescFile): string[] {
  const services = file.services.flatMap(({ typeName, methods }) => [
    typeName,
    ...methods.map(({ name }) => `${typeName}.${name}`),
  ]);
  return [...file.messages.flatMap(namesIn), ...file.enums.map(({ typeName }) => typeName), ...services];
}

function namesIn(message: DescMessage): string[] {
  return [
    message.typeName,
    ...message.nestedMessages.flatMap(namesIn),
    ...message.nestedEnums.map(({ typeName }) => typeName),
  ];
}
