/** The reflection protocol of gRPC (grpc.reflection.v1), over the descriptors that the contract's code carries. */
import { toBinary, type DescFile, type DescMessage, type DescService } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code, type ServiceImpl } from '@connectrpc/connect';
import type { ServerReflection, ServerReflectionRequest } from '../../proto/gen/grpc/reflection/v1/reflection_pb.js';
import type { StrangerPortions } from './grpc-strangers.js';

/** Answers questions about these services and everything that they use. */
export function createReflection(
  services: readonly DescService[],
  portions: StrangerPortions,
): ServiceImpl<typeof ServerReflection> {
  const files = new Map<string, DescFile>();
  for (const service of services) collect(service.file, files);
  const symbols = new Map<string, DescFile>();
  for (const file of files.values()) for (const name of symbolsOf(file)) symbols.set(name, file);
  const described = new Map([...files.values()].map((file) => [file, describe(file)]));

  /** `told`: files that the asker has; what others need is told them once. */
  const answer = (request: ServerReflectionRequest, told: Set<string>) => {
    const question = request.messageRequest;
    const tell = (file: DescFile | undefined) => {
      const needed = file && described.get(file);
      if (!needed) return notFound(`${JSON.stringify(question.value)} is not known`);
      const fileDescriptorProto = needed.filter(({ name }, index) => index === 0 || !told.has(name));
      for (const { name } of fileDescriptorProto) told.add(name);
      const value = { fileDescriptorProto: fileDescriptorProto.map(({ bytes }) => bytes) };
      return { case: 'fileDescriptorResponse', value } as const;
    };
    switch (question.case) {
      case 'listServices':
        return {
          case: 'listServicesResponse',
          value: { service: services.map(({ typeName }) => ({ name: typeName })) },
        } as const;
      case 'fileByFilename':
        return tell(files.get(question.value.replace(/\.proto$/, '')));
      case 'fileContainingSymbol':
        return tell(symbols.get(question.value));
      default:
        return notFound('extensions do not exist here');
    }
  };
  return {
    serverReflectionInfo: (requests, context) =>
      portions.stream(context, async function* () {
        const told = new Set<string>();
        for await (const originalRequest of requests) {
          const messageResponse = answer(originalRequest, told);
          portions.spend(context, bytesIn(messageResponse.value));
          yield { validHost: originalRequest.host, originalRequest, messageResponse };
        }
      }),
  };
}

/** A file as it is told. */
interface DescribedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** A file and everything that it needs, itself first; encoded once, since everybody may ask. */
function describe(file: DescFile): readonly DescribedFile[] {
  const needed = new Map<string, DescFile>();
  collect(file, needed);
  return [...needed.values()].map(({ name, proto }) => ({ name, bytes: toBinary(FileDescriptorProtoSchema, proto) }));
}

/** What makes an answer long. */
function bytesIn(answer: {
  readonly fileDescriptorProto?: readonly Uint8Array[];
  readonly service?: readonly { readonly name: string }[];
  readonly errorMessage?: string;
}): number {
  const files = answer.fileDescriptorProto?.map(({ length }) => length) ?? [];
  const names = answer.service?.map(({ name }) => name.length) ?? [];
  return [...files, ...names].reduce((sum, length) => sum + length, answer.errorMessage?.length ?? 0);
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
