/* libFuzzer's main: starts Python once, imports the module TARGET, and calls its C function from then on. */
#include <Python.h>

typedef int (*fuzz_one)(const uint8_t *, size_t);
static fuzz_one target;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    PyObject *module, *function;
    (void)argc;
    (void)argv;
    Py_InitializeEx(0);
    module = PyImport_ImportModule(TARGET);
    function = module ? PyObject_GetAttrString(module, "target") : NULL;
    if (!function) {
        PyErr_Print();
        exit(2);
    }
    target = (fuzz_one)PyLong_AsVoidPtr(function);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return target(data, size);
}
