package constructs

import "bytes"

// show
func trim(message []byte) []byte {
	message = bytes.ReplaceAll(message, []byte("\n"), []byte(" "))
	return bytes.TrimSpace(message)
}
