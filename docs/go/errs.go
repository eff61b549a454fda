package constructs

import (
	"errors"
	"io"
	"log"
)

// show
func read(c conn) []byte {
	_, message, err := c.ReadMessage()
	if err != nil && !errors.Is(err, io.EOF) {
		log.Printf("error: %v", err)
	}
	return message
}
