package sandboxd

const isAMD64 = true
