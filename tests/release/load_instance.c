/* Loads an instance by TensorFlow's C API, without Python: FOLDER N DIM INPUT OUTPUT, the two last by name of operation
   and index. Reads N·DIM floats from stdin, writes the pictures' bytes to stdout. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tensorflow/c/c_api.h"

static TF_Status* status;

static void check(void) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s\n", TF_Message(status));
    exit(1);
  }
}

static TF_Output named(TF_Graph* graph, char* name) {
  char* colon = strchr(name, ':');
  *colon = 0;
  TF_Output output = {TF_GraphOperationByName(graph, name), atoi(colon + 1)};
  if (output.oper == NULL) {
    fprintf(stderr, "no operation %s\n", name);
    exit(1);
  }
  return output;
}

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check();
  int64_t shape[] = {atoi(argv[2]), atoi(argv[3])};
  size_t bytes = shape[0] * shape[1] * sizeof(float);
  TF_Tensor* latents = TF_AllocateTensor(TF_FLOAT, shape, 2, bytes);
  if (fread(TF_TensorData(latents), 1, bytes, stdin) != bytes) return 2;
  TF_Output input = named(graph, argv[4]), output = named(graph, argv[5]);
  TF_Tensor* images = NULL;
  TF_SessionRun(session, NULL, &input, &latents, 1, &output, &images, 1, NULL, 0, NULL, status);
  check();
  fwrite(TF_TensorData(images), 1, TF_TensorByteSize(images), stdout);
  TF_CloseSession(session, status);
  return 0;
}
